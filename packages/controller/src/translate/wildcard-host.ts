import type { ServiceKey } from '@ambit/api';

const wildcardForm = /^\*(?:$|[a-z0-9._-]{0,252}$)/;

/** What hosts end with that `*`, `*.local` or `*.shop.svc.cluster.local` covers; undefined for what is no wildcard. */
export function wildcardEnding(host: string): string | undefined {
  const name = host.toLowerCase();
  return wildcardForm.test(name) ? name.slice(1) : undefined;
}

/** The hosts of one VirtualService or DestinationRule. */
export interface Hosts {
  /** Named as they are. */
  readonly services: readonly ServiceKey[];
  /** What the others end with. */
  readonly endings: readonly string[];
}

/** Of all that speak of a service those that name it, or else those with the longest wildcard: Istio's rule. */
export function mostSpecific<T>(
  all: readonly T[],
  service: ServiceKey,
  hostsOf: (one: T) => Hosts,
): readonly T[] {
  const ranks = all.map((one) => rankOf(hostsOf(one), service));
  const best = Math.max(-1, ...ranks);
  return best < 0 ? [] : all.filter((_one, index) => ranks[index] === best);
}

function rankOf({ services, endings }: Hosts, service: ServiceKey): number {
  if (services.includes(service)) return Number.POSITIVE_INFINITY;
  const hostname = service.slice(service.indexOf('/') + 1);
  return Math.max(-1, ...endings.filter((one) => hostname.endsWith(one)).map((one) => one.length));
}
