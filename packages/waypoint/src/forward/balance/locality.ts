import type { Locality, LocalityBalancing, Service, Workload } from '@ambit/api';

/** How endpoints are grouped by where they are. */
export type Placement<H> =
  | { readonly kind: 'together'; readonly hosts: readonly H[] }
  /** Nearest first; one follows when the one before it has too few healthy endpoints. */
  | { readonly kind: 'levels'; readonly levels: readonly (readonly H[])[] }
  | {
      readonly kind: 'shares';
      readonly shares: readonly { readonly weight: number; readonly hosts: readonly H[] }[];
    };

export interface Placing {
  /** Where traffic starts. */
  readonly own: Workload;
  readonly settings: LocalityBalancing;
  readonly distribution: Service['loadBalancing'];
  /** Something takes failing endpoints out, so that a failing locality is left (Istio's condition for failover). */
  readonly failover: boolean;
}

interface Placed {
  readonly workload: Workload;
}

/**
 * Istio's rules: shares win; then failover by labels and locality, where failing endpoints are noticed; a Service's
 * traffic distribution holds where no rule says anything.
 */
export function place<H extends Placed>(
  hosts: readonly H[],
  { own, settings, distribution, failover }: Placing,
): Placement<H> {
  const together: Placement<H> = { kind: 'together', hosts };
  if (!settings.enabled) return together;
  const rule = settings.distribute.find(({ from }) => localityMatches(from, own.locality));
  if (rule !== undefined) return { kind: 'shares', shares: sharesOf(hosts, rule.to) };
  if (settings.distribute.length > 0) return together;
  const silent = settings.failover.length === 0 && settings.failoverPriority.length === 0;
  if (silent && distribution.mode === 'failover') {
    const { scopes } = distribution;
    return levelsOf(hosts, ({ workload }) =>
      missed(scopes, (scope) => scopeOf(own, scope) === scopeOf(workload, scope)),
    );
  }
  if (!failover) return together;
  return levelsOf(hosts, ({ workload }) => rankOf(own, workload, settings));
}

/** `region/zone/subzone`; a `*` or nothing stands for any. */
export function localityMatches(pattern: string, { region, zone, subzone }: Locality): boolean {
  const [wantedRegion = '', wantedZone = '', wantedSubzone = ''] = pattern.split('/');
  const is = (wanted: string, value: string): boolean =>
    wanted === '*' || wanted === '' || wanted === value;
  return is(wantedRegion, region) && is(wantedZone, zone) && is(wantedSubzone, subzone);
}

/** An endpoint belongs to the first place that it matches; one that matches none gets nothing. */
function sharesOf<H extends Placed>(
  hosts: readonly H[],
  to: LocalityBalancing['distribute'][number]['to'],
): readonly { readonly weight: number; readonly hosts: readonly H[] }[] {
  const shares = to.map(([pattern, weight]) => ({ pattern, weight, hosts: [] as H[] }));
  for (const host of hosts) {
    shares
      .find(({ pattern }) => localityMatches(pattern, host.workload.locality))
      ?.hosts.push(host);
  }
  return shares.filter((share) => share.hosts.length > 0);
}

function levelsOf<H>(hosts: readonly H[], rank: (host: H) => number): Placement<H> {
  const byRank = new Map<number, H[]>();
  for (const host of hosts) {
    const at = rank(host);
    const level = byRank.get(at);
    if (level === undefined) byRank.set(at, [host]);
    else level.push(host);
  }
  if (byRank.size <= 1) return { kind: 'together', hosts };
  const levels = [...byRank].sort(([left], [right]) => left - right).map(([, level]) => level);
  return { kind: 'levels', levels };
}

const localityRanks = 8;

/** 0 for the best; labels weigh more than the locality. */
export function rankOf(own: Workload, other: Workload, settings: LocalityBalancing): number {
  const { failoverPriority, failover } = settings;
  if (failoverPriority.length === 0) return localityRank(own.locality, other.locality, failover);
  const byLabels = missed(failoverPriority, (entry) => {
    const at = entry.indexOf('=');
    const name = at < 0 ? entry : entry.slice(0, at);
    const wanted = at < 0 ? labelOf(own, name) : entry.slice(at + 1);
    return wanted === labelOf(other, name);
  });
  const byLocality =
    failover.length === 0 ? 0 : localityRank(own.locality, other.locality, failover);
  return byLabels * localityRanks + byLocality;
}

function localityRank(
  own: Locality,
  other: Locality,
  failover: LocalityBalancing['failover'],
): number {
  if (own.region === other.region) {
    if (own.zone !== other.zone) return 2;
    return own.subzone === other.subzone ? 0 : 1;
  }
  const rule = failover.find(({ from }) => from === own.region);
  return rule === undefined || rule.to === other.region ? 3 : 4;
}

/** How many of the list are left from the first one that does not hold. */
function missed<T>(wanted: readonly T[], holds: (one: T) => boolean): number {
  const at = wanted.findIndex((one) => !holds(one));
  return at < 0 ? 0 : wanted.length - at;
}

function scopeOf(
  { network, locality, node, clusterId }: Workload,
  scope: 'network' | 'region' | 'zone' | 'subzone' | 'node' | 'cluster',
): string {
  switch (scope) {
    case 'network':
      return network;
    case 'node':
      return node;
    case 'cluster':
      return clusterId;
    default:
      return locality[scope];
  }
}

const topology: ReadonlyMap<string, Parameters<typeof scopeOf>[1]> = new Map([
  ['topology.istio.io/network', 'network'],
  ['topology.kubernetes.io/region', 'region'],
  ['failure-domain.beta.kubernetes.io/region', 'region'],
  ['topology.kubernetes.io/zone', 'zone'],
  ['failure-domain.beta.kubernetes.io/zone', 'zone'],
  ['topology.istio.io/subzone', 'subzone'],
  ['topology.istio.io/cluster', 'cluster'],
  ['kubernetes.io/hostname', 'node'],
]);

/** Labels of topology are facts of the workload, whatever its pod is labelled with. */
function labelOf(workload: Workload, name: string): string | undefined {
  const scope = topology.get(name);
  if (scope !== undefined) return scopeOf(workload, scope);
  return workload.labels.find(([own]) => own === name)?.[1];
}
