import { isDeepStrictEqual } from 'node:util';

import type { ServiceKey, ServicePort, Upsert } from '@ambit/api';
import { declaredProtocol, serviceKey } from '@ambit/api';

import type { DestinationRuleRecord, VirtualServiceRecord } from '../kube/decode/configuration.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import { credentialUses } from '../translate/credential.ts';
import type { CompiledDestinationRule, PortsOf } from '../translate/destination-rule.ts';
import { compileDestinationRule } from '../translate/destination-rule.ts';
import type { RouteWaypoint, RouteWorld } from '../translate/gateway-compilation.ts';
import type { HostResolver, ServiceName } from '../translate/istio-host.ts';
import { hostnameOf, serviceOfHost } from '../translate/istio-host.ts';
import { regexProblem } from '../translate/regex.ts';
import { isOwn } from '../translate/route-table.ts';
import type { CompiledVirtualService, VirtualServiceWorld } from '../translate/virtual-service.ts';
import { compileDelegate, compileVirtualService } from '../translate/virtual-service.ts';
import type { Binding, CompiledWaypoint } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { AttachedRoutes } from './attached-routes.ts';
import { attachedRouteStage } from './attached-routes.ts';
import type { Collection } from './collection.ts';
import { credentialStages } from './credentials.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import type { SubsetsOf } from './destination-rules.ts';
import {
  placeOf,
  rivalStage,
  ruleFinders,
  rulesOfService,
  subsetsOfService,
} from './destination-rules.ts';
import type { GatewayRoutes } from './gateway-routes.ts';
import { attachedTo, gatewayRouteStages, routeName, routeWorlds } from './gateway-routes.ts';
import { clusterOutputs, routeOutputs } from './route-outputs.ts';
import type { EntryCollections } from './service-entries.ts';
import type { Sources } from './sources.ts';
import { only } from './version.ts';
import type { ServicesOfWaypoint } from './waypoint-services.ts';
import { serviceBinding, servicesOfWaypoints } from './waypoint-services.ts';

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly noted: Noted;
  readonly waypoints: Collection<CompiledWaypoint>;
  readonly obstacles: Collection<string>;
  readonly namespaceMetas: Collection<Pick<Metadata, 'labels' | 'annotations'>>;
  readonly entries: EntryCollections;
  /** By `namespace/name` of a Service. */
  readonly bindings: Collection<Binding>;
}

export interface RoutingCollections {
  readonly virtualServices: Collection<CompiledVirtualService>;
  readonly destinationRules: Collection<CompiledDestinationRule>;
  readonly gatewayRoutes: GatewayRoutes;
  /** By `namespace/name` of a waypoint's Gateway. */
  readonly attachedRoutes: Collection<AttachedRoutes>;
  readonly outputs: readonly Collection<Upsert>[];
  /** To what a service is bound; undefined for one that is not there. */
  readonly bindingOfService: (read: Reader, service: ServiceKey) => Binding | undefined;
  /** What becomes of one that need not be stored yet. */
  readonly virtualServiceOf: VirtualServiceOf;
  /** The same, with what rules beside it take from it; but Secrets are not read before a stored rule names them. */
  readonly destinationRuleOf: (
    read: Reader,
    record: DestinationRuleRecord,
  ) => CompiledDestinationRule;
  /** What routes of the Gateway API are compiled with. */
  readonly routeWorld: (read: Reader) => RouteWorld;
}

type VirtualServiceOf = (read: Reader, record: VirtualServiceRecord) => CompiledVirtualService;

/** What becomes of the resources that say where requests go and how. */
export function routingStages(parts: Parts): RoutingCollections {
  const { graph, sources, cluster, noted, entries, bindings } = parts;
  const servicesOf = servicesOfWaypoints(parts);
  const routeWorld = routeWorlds({
    sources,
    cluster,
    entries,
    waypointOf: (read, key) => routeWaypoint(read, parts, servicesOf, key),
  });
  const gatewayRoutes = gatewayRouteStages({ graph, sources, noted, worldOf: routeWorld });
  const hostResolver = resolverOf(parts);
  const compileRule = (read: Reader, record: DestinationRuleRecord): CompiledDestinationRule =>
    compileDestinationRule(
      record,
      cluster.clusterDomain,
      hostResolver(read),
      portsFrom(read, parts),
    );
  const destinationRules = noted(
    'destination-rules',
    graph.derive<DestinationRuleRecord, CompiledDestinationRule>({
      name: 'destination-rules',
      primary: sources.destinationRules,
      indexes: {
        place: placeOf,
        wildcard: ({ ending, namespace }) => (ending === undefined ? [] : [namespace]),
        credential: (rule) => credentialUses(rule).map(({ name }) => name),
      },
      derive: (record, key, read) => only(key, compileRule(read, record)),
      equal: isDeepStrictEqual,
    }),
  );
  const bindingOfService = (read: Reader, service: ServiceKey): Binding | undefined =>
    entries.serviceByKey(read, service)?.entry.binding ?? serviceBinding(read, bindings, service);
  const { rootNamespace } = cluster;
  const rules = ruleFinders(destinationRules);
  const found = { rules, rootNamespace, bindingOfService };
  const rulesOf = rulesOfService(found);
  const virtualServiceOf = virtualServiceCompiler(
    sources,
    virtualServiceWorlds(parts, { subsetsOf: subsetsOfService(found), gatewayRoutes }),
  );
  const virtualServices = virtualServiceStage(parts, virtualServiceOf);
  const credentials = credentialStages({
    ...parts,
    rules: destinationRules,
    bindingOfService,
  });
  const outputs = [
    ...routeOutputs(parts, { virtualServices, gatewayRoutes, entries }),
    ...clusterOutputs(parts, rulesOf, entries),
    credentials.output,
  ];
  const told = rivalStage({
    graph,
    noted,
    rootNamespace,
    bindingOfService,
    rules,
    judged: credentials.rules,
  });
  return {
    destinationRules: told.rules,
    virtualServices,
    bindingOfService,
    virtualServiceOf,
    destinationRuleOf: (read, record) => {
      const rule = compileRule(read, record);
      return { ...rule, problems: [...rule.problems, ...told.problemsOf(read, rule)] };
    },
    routeWorld,
    gatewayRoutes,
    attachedRoutes: attachedRouteStage(parts, gatewayRoutes),
    outputs,
  };
}

/** A waypoint as the routes see it that name its Gateway. */
function routeWaypoint(
  read: Reader,
  { waypoints, obstacles, namespaceMetas }: Parts,
  servicesOf: ServicesOfWaypoint,
  key: string,
): RouteWaypoint | undefined {
  const waypoint = read.get(waypoints, key);
  if (waypoint === undefined) return undefined;
  return {
    listeners: waypoint.listeners,
    allows: (namespace) =>
      waypoint.allows(namespace, read.get(namespaceMetas, namespace)?.labels ?? new Map()),
    services: () => servicesOf(read, key),
    isDeployed: () => read.get(obstacles, key) === undefined,
  };
}

interface VirtualServiceParts {
  readonly subsetsOf: SubsetsOf;
  readonly gatewayRoutes: GatewayRoutes;
}

/** A Service of the cluster comes first: nobody takes its name. */
function resolverOf({ sources, cluster, entries }: Parts): (read: Reader) => HostResolver {
  return (read) => (host, namespace) => {
    const service = serviceOfHost(host, namespace, cluster.clusterDomain);
    const exists =
      service !== undefined &&
      read.get(sources.services, `${service.namespace}/${service.name}`) !== undefined;
    return exists ? service : (entries.byHost(read, host, namespace) ?? service);
  };
}

function portsFrom(read: Reader, parts: Parts): PortsOf {
  return (service) => declaredPorts(read, parts, service)?.map(({ port }) => port);
}

function declaredPorts(
  read: Reader,
  { sources, entries }: Parts,
  { namespace, name, hostname }: ServiceName,
): readonly ServicePort[] | undefined {
  return hostname === undefined
    ? read.get(sources.services, `${namespace}/${name}`)?.ports
    : entries.serviceByKey(read, serviceKey(namespace, hostname))?.service.ports;
}

function virtualServiceWorlds(
  parts: Parts,
  { subsetsOf, gatewayRoutes }: VirtualServiceParts,
): (read: Reader) => VirtualServiceWorld {
  const { sources, cluster } = parts;
  const { clusterDomain } = cluster;
  const hostResolver = resolverOf(parts);
  return (read) => ({
    clusterDomain,
    rootNamespace: cluster.rootNamespace,
    host: hostResolver(read),
    ports: portsFrom(read, parts),
    unseen: (service) =>
      declaredPorts(read, parts, service)
        ?.filter((one) => ['tcp', 'tls'].includes(declaredProtocol(one) ?? ''))
        .map(({ port }) => port) ?? [],
    hasSubset: (service, name) => {
      const of = serviceKey(service.namespace, hostnameOf(service, clusterDomain));
      return subsetsOf(read, of, service.namespace)(name);
    },
    delegate: (namespace, name) => read.get(sources.virtualServices, `${namespace}/${name}`),
    regexProblem,
    insteadOf: (service) => {
      const first = attachedTo(read, gatewayRoutes, service).find(isOwn);
      return first && routeName(first);
    },
  });
}

/** One without hosts is a delegate. */
function virtualServiceCompiler(
  { virtualServices }: Sources,
  worldOf: (read: Reader) => VirtualServiceWorld,
): VirtualServiceOf {
  return (read, record) => {
    const world = worldOf(read);
    const isDelegate = record.spec.ok && (record.spec.value.hosts ?? []).length === 0;
    if (!isDelegate) return compileVirtualService(record, world);
    const roots = read.find(virtualServices, 'delegate', objectKey(record.meta));
    return compileDelegate(record, world, roots);
  };
}

function virtualServiceStage(
  { graph, sources, noted }: Parts,
  compile: VirtualServiceOf,
): Collection<CompiledVirtualService> {
  return noted(
    'virtual-services',
    graph.derive<VirtualServiceRecord, CompiledVirtualService>({
      name: 'virtual-services',
      primary: sources.virtualServices,
      indexes: {
        service: ({ services }) => services,
      },
      derive: (record, key, read) => only(key, compile(read, record)),
      equal: isDeepStrictEqual,
    }),
  );
}
