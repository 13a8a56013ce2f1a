import type { IpAddress, RouteTable, TcpMatch, WeightedTarget } from '@ambit/api';
import { cidrContains } from '@ambit/api';
import type { SourceFacts } from './match.ts';
import { sourceMatches } from './match.ts';

/** What routes may ask of a connection of which only bytes are known. */
export interface ConnectionFacts extends SourceFacts {
  /** The addresses that were asked for; those of the service where it was asked for by name. */
  readonly destinations: readonly IpAddress[];
  /** Of TLS: the name that was asked for, empty where there was none. Undefined for what is not TLS. */
  readonly sni: string | undefined;
}

/**
 * The targets of the first route that matches. None where routes speak of such connections and none takes this one,
 * which is then refused; undefined where no route speaks of them, and the service itself is meant.
 */
export function connectionTargets(
  { tls, tcp }: Pick<RouteTable, 'tls' | 'tcp'>,
  facts: ConnectionFacts,
): readonly WeightedTarget[] | undefined {
  const { sni } = facts;
  if (sni !== undefined) {
    const speaking = tls.filter(({ matches }) => matches.some((one) => sourceMatches(one, facts)));
    const found = speaking.find(({ matches }) =>
      matches.some((one) => sniMatches(one.sniHosts, sni) && tcpMatches(one, facts)),
    );
    if (speaking.length > 0) return found?.targets ?? [];
  }
  const speaking = tcp.filter(
    ({ matches }) => matches.length === 0 || matches.some((one) => sourceMatches(one, facts)),
  );
  const found = speaking.find(
    ({ matches }) => matches.length === 0 || matches.some((one) => tcpMatches(one, facts)),
  );
  return speaking.length > 0 ? (found?.targets ?? []) : undefined;
}

function sniMatches(hosts: readonly string[], sni: string): boolean {
  const name = sni.toLowerCase();
  return (
    hosts.length === 0 ||
    hosts.some((host) => (host.startsWith('*') ? name.endsWith(host.slice(1)) : name === host))
  );
}

function tcpMatches(match: TcpMatch, facts: ConnectionFacts): boolean {
  return (
    sourceMatches(match, facts) &&
    (match.destinationSubnets.length === 0 ||
      match.destinationSubnets.some((range) =>
        facts.destinations.some((ip) => cidrContains(range, ip)),
      ))
  );
}
