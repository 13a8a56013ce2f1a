import { isDeepStrictEqual } from 'node:util';

import type { Service, ServiceKey } from '@ambit/api';
import { serviceKey } from '@ambit/api';

import type { ConfigurationRecord, ReferenceGrantRecord } from '../kube/decode/configuration.ts';
import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { RouteWaypoint } from '../translate/gateway-compilation.ts';
import { readBrokenRoute } from '../translate/gateway-broken.ts';
import type {
  AnyGatewayRoute,
  CompiledGatewayRoute,
  GatewayRouteKind,
  ParentOutcome,
  RouteWorld,
} from '../translate/gateway-route.ts';
import { compileGatewayRoute } from '../translate/gateway-route.ts';
import type { AttachedRoute } from '../translate/gateway-merge.ts';
import { regexProblem } from '../translate/regex.ts';
import { compileService } from '../translate/service.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import { Oldest } from './oldest.ts';
import type { EntryCollections } from './service-entries.ts';
import type { Sources } from './sources.ts';
import { only } from './version.ts';

/** A compiled route and the object that it is of. */
export interface GatewayRoute {
  readonly kind: GatewayRouteKind;
  readonly meta: Metadata;
  readonly compiled: CompiledGatewayRoute;
  readonly problems: readonly Problem[];
}

export type GatewayRoutes = Readonly<Record<GatewayRouteKind, Collection<GatewayRoute>>>;

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly noted: Noted;
  readonly worldOf: (read: Reader) => RouteWorld;
}

/** The routes of the Gateway API, each with the services it is attached to. */
export function gatewayRouteStages(parts: Parts): GatewayRoutes {
  const { sources } = parts;
  return {
    HTTPRoute: stage(parts, 'HTTPRoute', sources.httpRoutes),
    GRPCRoute: stage(parts, 'GRPCRoute', sources.grpcRoutes),
    TCPRoute: stage(parts, 'TCPRoute', sources.tcpRoutes),
    TLSRoute: stage(parts, 'TLSRoute', sources.tlsRoutes),
  };
}

function stage<S>(
  { graph, noted, worldOf }: Parts,
  kind: GatewayRouteKind,
  primary: Collection<ConfigurationRecord<S>>,
): Collection<GatewayRoute> {
  return noted(
    kind,
    graph.derive<ConfigurationRecord<S>, GatewayRoute>({
      name: kind,
      primary,
      indexes: {
        gateway: (route) => [...new Set(gatewaysNamedBy(route).map(({ key }) => key))],
        service: ({ compiled }) => [...new Set(compiled.parents.flatMap(servicesOfParent))],
      },
      derive: (record, key, read) => {
        const { meta, spec, problems } = record;
        const broken = spec.ok ? undefined : readBrokenRoute(kind, spec.error, problems);
        const route = {
          kind,
          meta,
          spec: spec.ok ? spec.value : broken?.spec,
        } as unknown as AnyGatewayRoute;
        const compiled = compileGatewayRoute(route, worldOf(read), broken);
        return only(key, { kind, meta, compiled, problems: compiled.problems });
      },
      equal: isDeepStrictEqual,
    }),
  );
}

/**
 * The waypoints to whose Gateways a route is attached, `<namespace>/<name>`, and the listener that it names. Whether it is
 * accepted is another question, as the Gateway API has it.
 */
export function gatewaysNamedBy({
  compiled,
  meta,
}: GatewayRoute): readonly { readonly key: string; readonly listener: string | undefined }[] {
  return compiled.parents
    .filter(({ byWaypoint }) => byWaypoint === true)
    .map(({ parent: { namespace = meta.namespace, name, sectionName } }) => ({
      key: `${namespace}/${name}`,
      listener: sectionName,
    }));
}

interface WorldParts {
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly entries: EntryCollections;
  readonly waypointOf: (read: Reader, key: string) => RouteWaypoint | undefined;
}

/** What routes are compiled with. */
export function routeWorlds({
  sources,
  cluster,
  entries,
  waypointOf,
}: WorldParts): (read: Reader) => RouteWorld {
  // Of several that allow the same one is enough.
  const grants = new Oldest(sources.referenceGrants, {
    claims: grantsOf,
    createdAtMs: ({ meta }) => meta.createdAtMs,
  });
  return (read) => ({
    clusterDomain: cluster.clusterDomain,
    regexProblem,
    waypoint: (namespace, name) => waypointOf(read, `${namespace}/${name}`),
    service: (namespace, name) => serviceOf(read, sources, cluster, `${namespace}/${name}`),
    entry: (namespace, name) => entries.servicesOf(read, namespace, name),
    entryHost: (host, namespace) => {
      const found = entries.byHost(read, host, namespace);
      return (
        found?.hostname &&
        entries.serviceByKey(read, serviceKey(found.namespace, found.hostname))?.service
      );
    },
    granted: (from, to) =>
      [to.name, everyName].some(
        (name) => read.oldest(grants, grantOf(to.namespace, from, { ...to, name })) !== undefined,
      ),
  });
}

type Granted = Parameters<RouteWorld['granted']>;

/** No name of an object. */
const everyName = '*';

function grantsOf({ meta, spec }: ReferenceGrantRecord): readonly string[] {
  if (!spec.ok) return [];
  const { from: clients, to: targets } = spec.value;
  return clients.flatMap((from) =>
    targets.map((to) => grantOf(meta.namespace, from, { ...to, name: to.name ?? everyName })),
  );
}

function grantOf(
  namespace: string,
  from: Granted[0],
  to: Pick<Granted[1], 'group' | 'kind' | 'name'>,
): string {
  return JSON.stringify([
    namespace,
    from.group,
    from.kind,
    from.namespace,
    to.group,
    to.kind,
    to.name,
  ]);
}

export function serviceOf(
  read: Reader,
  sources: Sources,
  { clusterDomain }: ClusterFacts,
  key: string,
): Service | undefined {
  const record = read.get(sources.services, key);
  return record && compileService(record, undefined, clusterDomain);
}

/**
 * Every route that is attached to a service, with the parent by which it is. One that is not accepted is among them: what
 * it cannot do it refuses, and without it requests would go past it.
 */
export function attachedTo(
  read: Reader,
  routes: GatewayRoutes,
  service: ServiceKey,
): readonly AttachedRoute[] {
  return Object.values(routes).flatMap((collection) =>
    read
      .find(collection, 'service', service)
      .flatMap(({ compiled, meta }) =>
        compiled.parents
          .filter((parent) => servicesOfParent(parent).some((one) => one === service))
          .map((parent) => ({ compiled, meta, parent })),
      ),
  );
}

function servicesOfParent({ service, otherServices = [] }: ParentOutcome): readonly ServiceKey[] {
  return service === undefined ? [] : [service, ...otherServices];
}

export function routeName({ compiled, meta }: AttachedRoute): string {
  return compiled.name === '' ? objectKey(meta) : compiled.name;
}
