import { formatSocketAddress } from '@ambit/api';
import type { ProxyContext } from './context.ts';
import type { PodProxies } from './inpod/pod-proxies.ts';

/** Everything the proxy knows, for people and tools; certificates without their keys. */
export function configDump(
  context: ProxyContext,
  pods: PodProxies,
  controller: boolean,
  agent: boolean,
): unknown {
  const { state, certificates, connections, config } = context;
  return {
    node: config.node,
    connected: { controller, agent },
    mesh: state.mesh(),
    workloads: [...state.workloads()],
    services: [...state.services()],
    policies: [...state.policyKeys()],
    certificates: certificates.view(),
    pods: [...pods.list()].map(({ pod, state: listening }) => ({ ...pod, listening })),
    connections: [...connections.list()].map(({ record, copy }) => ({
      direction: record.direction,
      source: record.source && formatSocketAddress(record.source),
      destination: formatSocketAddress(record.destination),
      sourceIdentity: record.sourceIdentity,
      destinationIdentity: record.destinationIdentity,
      ...copy.counts,
    })),
  };
}
