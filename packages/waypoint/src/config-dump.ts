import type { CertificateView } from '@ambit/core';
import type { WaypointContext } from './context.ts';

/** Everything the proxy knows, for people and tools; certificates without their keys. */
export function configDump(
  context: WaypointContext,
  controller: boolean,
  certificates: readonly CertificateView[],
): unknown {
  const { state, clusters } = context;
  const services = [...state.services()];
  return {
    gateway: context.gateway(),
    connected: { controller },
    mesh: state.mesh(),
    routes: services.flatMap(
      ({ namespace, hostname }) =>
        state.routes(`${namespace}/${hostname}` as Parameters<typeof state.routes>[0]) ?? [],
    ),
    clusters: [...clusters].map((cluster) => ({
      name: cluster.name,
      requests: cluster.requests,
      connections: cluster.pool.connections,
      pending: cluster.pool.pending,
      ejected: cluster.ejected,
      retries: cluster.retries,
      hosts: cluster.hosts.map((host) => ({
        id: host.id,
        active: host.active,
        state: cluster.stateOf(host),
      })),
    })),
    policies: [...state.policyKeys()],
    certificates,
  };
}
