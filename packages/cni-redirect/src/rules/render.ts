import { assertNever, familyOf, proxyConnectionMark, proxyMark, proxyMarkMask } from '@ambit/api';
import type { Chain, ChainKind, Match, Protocol, Rule, RuleModel, Verdict } from './plan.ts';

/** The table in a pod's network namespace. */
export const podTable = 'inet ambit';

const mask = hex(proxyMarkMask);
const keepOtherBits = hex(0xffff_ffff - proxyMarkMask);

/** By number: an image of little more than the agent has no `/etc/protocols`, where nft looks up names. */
const protocolNumbers: Readonly<Record<Protocol, number>> = { tcp: 6, icmp: 1, 'ipv6-icmp': 58 };

/** Name and hook of each chain. Output marks need a chain of type `route`: only that one routes a packet again. */
const chainHeads: Readonly<Record<ChainKind, string>> = {
  'raw-prerouting': 'type filter hook prerouting priority raw; policy accept;',
  'raw-output': 'type filter hook output priority raw; policy accept;',
  'mangle-prerouting': 'type filter hook prerouting priority mangle; policy accept;',
  'mangle-output': 'type route hook output priority mangle; policy accept;',
  'nat-prerouting': 'type nat hook prerouting priority dstnat; policy accept;',
  // By number: nft before 1.0.7 knows the name `dstnat` in prerouting only.
  'nat-output': 'type nat hook output priority -100; policy accept;',
  'filter-input': 'type filter hook input priority filter; policy accept;',
  'filter-postrouting': 'type filter hook postrouting priority filter; policy accept;',
};

/**
 * One transaction for `nft -f -` that puts the rules in place of those that are there. The kernel takes it as a whole or
 * not at all, and connection tracking outlives it, so open connections do not notice.
 */
export function renderTable(model: RuleModel): string {
  return [
    `add table ${podTable}`,
    `delete table ${podTable}`,
    `table ${podTable} {`,
    ...model.chains.map(renderChain),
    '}',
    '',
  ].join('\n');
}

/** A transaction that removes the rules, whether they are there or not. */
export function renderTableRemoval(): string {
  return `add table ${podTable}\ndelete table ${podTable}\n`;
}

/** Of those that say nothing but that they are. */
const fixedMatches = {
  opening: 'tcp flags & (syn | ack) == syn',
  // What is being accepted is kept for a minute. A translated one would lose its translation.
  established: 'ct state established ct status & snat != snat ct expiration > 2m',
  'proxy-connection': `ct mark & ${mask} == ${hex(proxyConnectionMark)}`,
};

type FixedMatch = Extract<Match, { readonly on: keyof typeof fixedMatches }>;

function isFixed(match: Match): match is FixedMatch {
  return match.on in fixedMatches;
}

function renderChain({ kind, rules }: Chain): string {
  const lines = [chainHeads[kind], ...rules.map(renderRule)];
  return `  chain ${kind} {\n${lines.map((line) => `    ${line}`).join('\n')}\n  }`;
}

function renderRule({ match, verdict }: Rule): string {
  return [...match.map(renderMatch), renderVerdict(verdict)].join(' ');
}

function renderMatch(match: Match): string {
  if (isFixed(match)) return fixedMatches[match.on];
  switch (match.on) {
    case 'loopback':
      return `${match.side === 'in' ? 'iifname' : 'oifname'} ${match.is ? '' : '!= '}"lo"`;
    case 'source':
      return `${familyOf(match.ip) === 'IPv4' ? 'ip' : 'ip6'} saddr ${match.ip}`;
    case 'protocol':
      return `meta l4proto ${match.is ? '' : '!= '}{ ${match.names.map((name) => protocolNumbers[name]).join(', ')} }`;
    case 'port': {
      const side = match.side === 'source' ? 'sport' : 'dport';
      return `${match.protocol} ${side} ${match.is ? '' : '!= '}{ ${match.ports.join(', ')} }`;
    }
    case 'proxy-mark':
      return `meta mark & ${mask} ${match.is ? '==' : '!='} ${hex(proxyMark)}`;
    default:
      return assertNever(match);
  }
}

function renderVerdict(verdict: Verdict): string {
  switch (verdict.do) {
    case 'accept':
      return 'accept';
    case 'drop':
      return 'counter drop';
    case 'reset':
      return 'counter reject with tcp reset';
    case 'redirect':
      return `meta l4proto { tcp, udp } redirect to :${verdict.port}`;
    case 'mark-connection':
      return `ct mark set ct mark & ${keepOtherBits} | ${hex(proxyConnectionMark)}`;
    case 'route-to-proxy':
      return `meta mark set meta mark & ${keepOtherBits} | ${hex(proxyConnectionMark)}`;
    case 'conntrack-zone':
      return `ct zone set ${verdict.zone}`;
    case 'opener-zone':
      return `ct original zone set ${verdict.zone}`;
    default:
      return assertNever(verdict);
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
