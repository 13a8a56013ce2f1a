import type {
  Cluster,
  Hostname,
  IpAddress,
  Port,
  Service,
  ServiceKey,
  TrafficPolicy,
  TrafficSettings,
  Workload,
} from '@ambit/api';
import { defaultTraffic, familyOf } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import type { ListedEndpoint } from './endpoint.ts';

export interface ClusterKey {
  readonly service: ServiceKey;
  readonly port: Port;
  readonly subset?: string;
}

/** Undefined where there is no such service, port or subset. */
export function settingsOf(state: MeshState, key: ClusterKey): TrafficSettings | undefined {
  const service = state.service(key.service);
  if (service === undefined || !service.ports.some(({ port }) => port === key.port)) {
    return undefined;
  }
  const rule = state.cluster(key.service);
  if (key.subset === undefined) return forPort(rule?.policy ?? defaultTraffic, key.port);
  const subset = subsetOf(rule, key.subset);
  return subset && forPort(subset.policy, key.port);
}

function forPort(policy: TrafficPolicy, port: Port): TrafficSettings {
  return policy.ports.find((one) => one.port === port)?.settings ?? policy;
}

function subsetOf(
  rule: Cluster | undefined,
  wanted: string,
): Cluster['subsets'][number] | undefined {
  return rule?.subsets.find(({ name }) => name === wanted);
}

/** The endpoints that are to be used, with the labels of the subset. */
export function listEndpoints(
  state: MeshState,
  key: ClusterKey,
  names: NameDeps,
): readonly ListedEndpoint[] {
  const service = state.service(key.service);
  const wanted =
    key.subset === undefined
      ? []
      : (subsetOf(state.cluster(key.service), key.subset)?.labels ?? []);
  return state.endpointsOf(key.service).flatMap(({ workload, membership }) => {
    const port = membership.ports.find(({ servicePort }) => servicePort === key.port)?.targetPort;
    if (port === undefined) return [];
    if (!membership.ready && service?.publishNotReady !== true) return [];
    const isIn = wanted.every(([name, value]) =>
      workload.labels.some(([own, is]) => own === name && is === value),
    );
    if (!isIn) return [];
    return addressesOf(workload, service, names).map((ip) => ({
      id: `${workload.uid}|${ip}:${port}`,
      locality: workload.locality,
      workload,
      address: { ip, port },
      ...(membership.weight === undefined ? {} : { weight: membership.weight }),
    }));
  });
}

/** How endpoints that are known by a name become addresses. */
export interface NameDeps {
  readonly own: () => Workload | undefined;
  readonly addressesOf?: (hostname: Hostname) => readonly IpAddress[];
}

/** One of a workload's own addresses; of a name all that it stands for and that can be reached from here. */
function addressesOf(
  workload: Workload,
  service: Service | undefined,
  names: NameDeps,
): readonly IpAddress[] {
  if (workload.hostname === undefined) return workload.addresses.slice(0, 1);
  const families = new Set((names.own()?.addresses ?? []).map(familyOf));
  const all = names.addressesOf?.(workload.hostname) ?? [];
  const reachable = all.filter((ip) => families.size === 0 || families.has(familyOf(ip)));
  // Istio's DNS_ROUND_ROBIN: a name that stands for many takes one of them at a time.
  return service?.entry?.resolution === 'dns-round-robin' ? reachable.slice(0, 1) : reachable;
}
