import type { Cluster, RouteTable, Service, ServiceKey, Upsert } from '@ambit/api';
import { serviceKey } from '@ambit/api';

import type { ServiceRecord } from '../kube/decode/service.ts';
import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import { mergeDestinationRules } from '../translate/destination-rule.ts';
import type { ResolvedEntry } from '../translate/entry-claims.ts';
import { withHealthCheck } from '../translate/health-check.ts';
import { hostnameOf } from '../translate/istio-host.ts';
import { routeTableOf } from '../translate/route-table.ts';
import type { CompiledVirtualService } from '../translate/virtual-service.ts';
import type { Routed } from '../translate/virtual-service-merge.ts';
import { mergeVirtualServices } from '../translate/virtual-service-merge.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Reader } from './derived.ts';
import type { GatewayRoutes } from './gateway-routes.ts';
import { attachedTo, serviceOf } from './gateway-routes.ts';
import { byEnding, Matches } from './matches.ts';
import type { EntryCollections } from './service-entries.ts';
import { keyOf } from './service-entries.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

/** The DestinationRules that hold for a service of a namespace. */
export type RulesOf = (
  read: Reader,
  service: ServiceKey,
  namespace: string,
) => readonly CompiledDestinationRule[];

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
}

interface RouteParts {
  readonly gatewayRoutes: GatewayRoutes;
  readonly entries: EntryCollections;
  readonly virtualServices: Collection<CompiledVirtualService>;
}

/** VirtualServices are asked for wherever they are. */
const anyNamespace = '*';

/** The table of every service, of the cluster's and of ServiceEntries. */
export function routeOutputs(parts: Parts, routes: RouteParts): readonly Collection<Upsert>[] {
  const { graph, sources, cluster } = parts;
  const covering = new Matches(
    routes.virtualServices,
    byEnding<CompiledVirtualService>({
      scope: ({ endings }) => (endings.length === 0 ? undefined : anyNamespace),
      endings: ({ endings }) => endings,
    }),
  );
  const known = { ...routes, covering };
  const ofServices = graph.derive<ServiceRecord, Upsert>({
    name: 'route-output',
    primary: sources.services,
    derive: ({ meta, ports }, key, read) => {
      const service = serviceKey(meta.namespace, hostnameOf(meta, cluster.clusterDomain));
      const routed = { service, namespace: meta.namespace, ports: ports.map(({ port }) => port) };
      const own = serviceOf(read, sources, cluster, key);
      return only(key, routeUpsert(read, routed, own, cluster, known));
    },
    equal: sameVersion,
  });
  const ofEntries = graph.derive<ResolvedEntry, Upsert>({
    name: 'entry-route-output',
    primary: routes.entries.resolved,
    derive: ({ services }, key, read) =>
      perService(services, key, (service) => {
        const routed = {
          service: keyOf(service),
          namespace: service.namespace,
          ports: service.ports.map(({ port }) => port),
        };
        return routeUpsert(read, routed, service, cluster, known);
      }),
    equal: sameVersion,
  });
  return [ofServices.output, ofEntries.output];
}

function perService(
  services: readonly Service[],
  key: string,
  upsertOf: (service: Service) => Upsert | undefined,
): ReadonlyMap<string, Upsert> {
  const upserts = new Map<string, Upsert>();
  for (const service of services) {
    const upsert = upsertOf(service);
    if (upsert !== undefined) upserts.set(`${key}#${service.hostname}`, upsert);
  }
  return upserts;
}

function routeUpsert(
  read: Reader,
  routed: Routed,
  own: Service | undefined,
  cluster: ClusterFacts,
  {
    virtualServices,
    covering,
    gatewayRoutes,
  }: RouteParts & {
    /** The VirtualServices whose wildcards cover a service. */
    readonly covering: Matches<CompiledVirtualService, ServiceKey>;
  },
): Upsert | undefined {
  const { service } = routed;
  const virtual = mergeVirtualServices(routed, cluster.rootNamespace, [
    ...new Set([
      ...read.find(virtualServices, 'service', service),
      ...read.matching(covering, anyNamespace, service),
    ]),
  ]);
  const resource: RouteTable | undefined =
    own && routeTableOf(own, attachedTo(read, gatewayRoutes, service), virtual);
  return resource && { type: 'route', name: service, version: versionOf(resource), resource };
}

/** How the endpoints of every service are called. */
export function clusterOutputs(
  { graph, sources, cluster }: Parts,
  rulesOf: RulesOf,
  entries: EntryCollections,
): readonly Collection<Upsert>[] {
  const upsertOf = (
    read: Reader,
    service: ServiceKey,
    {
      namespace,
      annotations,
    }: Pick<ServiceRecord['meta'], 'namespace'> & {
      readonly annotations?: ReadonlyMap<string, string>;
    },
  ): Upsert | undefined => {
    const resource: Cluster | undefined = withHealthCheck(
      mergeDestinationRules(service, rulesOf(read, service, namespace)),
      service,
      annotations,
    );
    return resource && { type: 'cluster', name: service, version: versionOf(resource), resource };
  };
  const ofServices = graph.derive<ServiceRecord, Upsert>({
    name: 'cluster-output',
    primary: sources.services,
    derive: ({ meta }, key, read) => {
      const service = serviceKey(meta.namespace, hostnameOf(meta, cluster.clusterDomain));
      return only(key, upsertOf(read, service, meta));
    },
    equal: sameVersion,
  });
  const ofEntries = graph.derive<ResolvedEntry, Upsert>({
    name: 'entry-cluster-output',
    primary: entries.resolved,
    derive: ({ services }, key, read) =>
      perService(services, key, (one) => upsertOf(read, keyOf(one), { namespace: one.namespace })),
    equal: sameVersion,
  });
  return [ofServices.output, ofEntries.output];
}
