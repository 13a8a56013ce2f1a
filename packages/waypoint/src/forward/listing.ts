import type { Cluster, Port, ServiceKey, TrafficPolicy, TrafficSettings } from '@ambit/api';
import { defaultTraffic } from '@ambit/api';
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
export function listEndpoints(state: MeshState, key: ClusterKey): readonly ListedEndpoint[] {
  const service = state.service(key.service);
  const wanted =
    key.subset === undefined
      ? []
      : (subsetOf(state.cluster(key.service), key.subset)?.labels ?? []);
  return state.endpointsOf(key.service).flatMap(({ workload, membership }) => {
    const port = membership.ports.find(({ servicePort }) => servicePort === key.port)?.targetPort;
    const [ip] = workload.addresses;
    if (port === undefined || ip === undefined) return [];
    if (!membership.ready && service?.publishNotReady !== true) return [];
    const isIn = wanted.every(([name, value]) =>
      workload.labels.some(([own, is]) => own === name && is === value),
    );
    if (!isIn) return [];
    return [
      {
        id: `${workload.uid}|${ip}:${port}`,
        locality: workload.locality,
        workload,
        address: { ip, port },
      },
    ];
  });
}
