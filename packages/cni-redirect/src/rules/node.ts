import type { IpAddress, Port } from '@ambit/api';
import { familyOf, probeSourceIpv4, probeSourceIpv6 } from '@ambit/api';

/** The table in the node's own network namespace. */
export const nodeTable = 'inet ambit-node';

/** A captured pod's address and a port of it that the kubelet probes. */
export interface ProbeTarget {
  readonly ip: IpAddress;
  readonly port: Port;
}

/**
 * The node's side of probes: what root of this node opens to a declared probe port of a captured pod comes from the
 * address that the pod's rules let through. That address never arrives from outside: nobody else can use it.
 */
export function renderNodeRules(targets: readonly ProbeTarget[]): string {
  const of = (family: 'IPv4' | 'IPv6'): string =>
    [
      ...new Set(
        targets
          .filter(({ ip }) => familyOf(ip) === family)
          .map(({ ip, port }) => `${ip} . ${port}`),
      ),
    ].join(', ');
  const elements = (list: string): string => (list === '' ? '' : ` elements = { ${list} };`);
  return [
    `add table ${nodeTable}`,
    `delete table ${nodeTable}`,
    `table ${nodeTable} {`,
    `  set probes4 { type ipv4_addr . inet_service;${elements(of('IPv4'))} }`,
    `  set probes6 { type ipv6_addr . inet_service;${elements(of('IPv6'))} }`,
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat - 5; policy accept;',
    `    meta skuid 0 ip daddr . tcp dport @probes4 snat ip to ${probeSourceIpv4}`,
    `    meta skuid 0 ip6 daddr . tcp dport @probes6 snat ip6 to ${probeSourceIpv6}`,
    '  }',
    '  chain prerouting {',
    '    type filter hook prerouting priority raw - 10; policy accept;',
    `    iifname != "lo" ip saddr ${probeSourceIpv4} counter drop`,
    `    iifname != "lo" ip6 saddr ${probeSourceIpv6} counter drop`,
    '  }',
    '}',
    '',
  ].join('\n');
}

export function renderNodeRemoval(): string {
  return `add table ${nodeTable}\ndelete table ${nodeTable}\n`;
}
