import { isIPv6 } from 'node:net';
import { network } from './plan.ts';

export interface Backend {
  readonly ip: string;
  readonly port: number;
}

/** One port of one service address, with where its connections go. No backend means: refused. */
export interface VirtualAddress {
  readonly ip: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly nodePort?: number;
  readonly backends: readonly Backend[];
}

const table = 'ambit_services';

/** The nftables transaction that makes exactly these service addresses work in one namespace. */
export function renderServiceRules(addresses: readonly VirtualAddress[], ipv6: boolean): string {
  const usable = addresses.filter((address) => ipv6 || !isIPv6(address.ip));
  const withBackends = usable.filter((address) => address.backends.length > 0);
  const families = ipv6 ? (['ip', 'ip6'] as const) : (['ip'] as const);
  const lines = [
    `table inet ${table}`,
    `delete table inet ${table}`,
    `table inet ${table} {`,
    ...families.flatMap((family) => [
      mapOf(
        `vips_${family}`,
        family,
        withBackends.filter((a) => familyOf(a.ip) === family),
      ),
      hairpinSet(family, withBackends),
    ]),
    ...withBackends.map((address) => chainOf(address)),
    ...nodePortChain(withBackends),
    '  chain dispatch {',
    ...families.map(
      (family) => `    ${family} daddr . meta l4proto . th dport vmap @vips_${family}`,
    ),
    ...(withBackends.some((a) => a.nodePort !== undefined)
      ? ['    fib daddr type local jump node_ports']
      : []),
    '  }',
    '  chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump dispatch; }',
    '  chain output { type nat hook output priority -100; policy accept; jump dispatch; }',
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    '    meta mark & 0x4000 == 0x4000 masquerade',
    ...families.map(
      (family) => `    ${family} saddr . ${family} daddr @hairpin_${family} masquerade`,
    ),
    '  }',
    '  chain unserved {',
    `    ip daddr ${network.serviceSubnet.v4} meta l4proto tcp reject with tcp reset`,
    `    ip daddr ${network.serviceSubnet.v4} reject`,
    ...(ipv6
      ? [
          `    ip6 daddr ${network.serviceSubnet.v6} meta l4proto tcp reject with tcp reset`,
          `    ip6 daddr ${network.serviceSubnet.v6} reject`,
        ]
      : []),
    '  }',
    '  chain forward { type filter hook forward priority filter; policy accept; jump unserved; }',
    '  chain filter_output { type filter hook output priority filter; policy accept; jump unserved; }',
    '}',
  ];
  return `${lines.join('\n')}\n`;
}

function familyOf(ip: string): 'ip' | 'ip6' {
  return isIPv6(ip) ? 'ip6' : 'ip';
}

function chainName(address: VirtualAddress): string {
  return `svc_${address.ip.replaceAll(/[.:]/g, '_')}_${address.protocol}_${address.port}`;
}

function mapOf(name: string, family: 'ip' | 'ip6', addresses: readonly VirtualAddress[]): string {
  const key = family === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
  const elements = addresses.map(
    (a) => `${a.ip} . ${a.protocol} . ${a.port} : goto ${chainName(a)}`,
  );
  const body = elements.length === 0 ? '' : ` elements = { ${elements.join(', ')} };`;
  return `  map ${name} { type ${key} . inet_proto . inet_service : verdict;${body} }`;
}

/** A pod that reaches itself through a service must see another source, or it would answer itself directly. */
function hairpinSet(family: 'ip' | 'ip6', addresses: readonly VirtualAddress[]): string {
  const ips = new Set(
    addresses.flatMap((a) => a.backends.map((b) => b.ip)).filter((ip) => familyOf(ip) === family),
  );
  const key = family === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
  const body =
    ips.size === 0 ? '' : ` elements = { ${Array.from(ips, (ip) => `${ip} . ${ip}`).join(', ')} };`;
  return `  set hairpin_${family} { type ${key} . ${key};${body} }`;
}

function chainOf(address: VirtualAddress): string {
  const family = familyOf(address.ip);
  const choices = address.backends.map((b, i) => `${i} : ${b.ip} . ${b.port}`);
  const target = `numgen random mod ${choices.length} map { ${choices.join(', ')} }`;
  return `  chain ${chainName(address)} { meta l4proto ${address.protocol} dnat ${family} to ${target}; }`;
}

function nodePortChain(addresses: readonly VirtualAddress[]): string[] {
  const rules = addresses
    .filter((address) => address.nodePort !== undefined)
    .map(
      (address) =>
        `    meta nfproto ${isIPv6(address.ip) ? 'ipv6' : 'ipv4'} ${address.protocol} dport ${address.nodePort ?? 0} ` +
        `meta mark set meta mark | 0x4000 goto ${chainName(address)}`,
    );
  return rules.length === 0 ? [] : ['  chain node_ports {', ...rules, '  }'];
}
