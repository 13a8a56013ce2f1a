import { isDeepStrictEqual } from 'node:util';

import type {
  Cluster,
  RouteTable,
  Service,
  ServiceKey,
  SpiffeId,
  Upsert,
  Workload,
} from '@ambit/api';
import {
  bypassWaypointAnnotation,
  serviceKey,
  waypointClass,
  withoutWaypointAnnotation,
} from '@ambit/api';

import type {
  DestinationRuleRecord,
  GatewayRecord,
  RequestAuthenticationRecord,
  VirtualServiceRecord,
} from '../kube/decode/configuration.ts';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import type { PodRecord } from '../kube/decode/pod.ts';
import type { ServiceRecord } from '../kube/decode/service.ts';
import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import { compileDestinationRule, mergeDestinationRules } from '../translate/destination-rule.ts';
import { hostnameOf } from '../translate/istio-host.ts';
import type { CompiledPolicy } from '../translate/policy.ts';
import { regexProblem } from '../translate/regex.ts';
import type { CompiledRequestAuthentication } from '../translate/request-authentication.ts';
import { compileRequestAuthentication } from '../translate/request-authentication.ts';
import { isOwn, routeTableOf } from '../translate/route-table.ts';
import { targetName } from '../translate/targets.ts';
import { mergeVirtualServices } from '../translate/virtual-service-merge.ts';
import type { CompiledVirtualService, VirtualServiceWorld } from '../translate/virtual-service.ts';
import { compileVirtualService } from '../translate/virtual-service.ts';
import type { Binding, BindingWorld, CompiledWaypoint } from '../translate/waypoint.ts';
import { bindingOf, compileWaypoint } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import type { GatewayRoutes } from './gateway-routes.ts';
import { attachedTo, gatewayRouteStages, routeName, serviceOf } from './gateway-routes.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

/** How the collections of waypoints hang together with the others. */
export interface WaypointCollections {
  readonly waypoints: Collection<CompiledWaypoint>;
  /** By `namespace/name` of a Service. */
  readonly bindings: Collection<Binding>;
  readonly authentications: Collection<CompiledRequestAuthentication>;
  readonly virtualServices: Collection<CompiledVirtualService>;
  readonly destinationRules: Collection<CompiledDestinationRule>;
  readonly gatewayRoutes: GatewayRoutes;
  readonly outputs: readonly Collection<Upsert>[];
  /** What the pod's own waypoint and those of its services mean for it. */
  forWorkload(
    read: Reader,
    pod: PodRecord,
    services: readonly ServiceKey[],
  ): Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'>;
  forService(read: Reader, record: ServiceRecord): Pick<Service, 'waypoint' | 'withoutWaypoint'>;
}

type Noted = <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly policies: Collection<CompiledPolicy>;
  readonly noted: Noted;
}

export function waypointStages(parts: Parts): WaypointCollections {
  const base = baseStages(parts);
  const bindings = bindingStage(parts, base);
  const routing = routingStages(parts);
  return {
    ...base,
    bindings,
    ...routing,
    forService: (read, record) => {
      const binding = read.get(bindings, `${record.meta.namespace}/${record.meta.name}`);
      const annotation =
        record.meta.annotations.get(withoutWaypointAnnotation) ??
        read
          .get(base.namespaceMetas, record.meta.namespace)
          ?.annotations.get(withoutWaypointAnnotation);
      return {
        ...(binding === undefined || binding.kind === 'none' ? {} : { waypoint: binding.ref }),
        withoutWaypoint: annotation === 'direct' ? 'direct' : 'refuse',
      };
    },
    forWorkload: (read, pod, services) =>
      workloadBinding(parts, base, bindings, { read, pod, services }),
  };
}

type Base = ReturnType<typeof baseStages>;

function baseStages({ graph, sources, cluster, noted }: Parts) {
  const waypoints = noted(
    'waypoints',
    graph.derive<GatewayRecord, CompiledWaypoint>({
      name: 'waypoints',
      primary: sources.gateways,
      derive: (record, key) => only(key, compileWaypoint(record, cluster)),
      equal: (left, right) => left === right,
    }),
  );
  // Of a namespace only what bindings ask for.
  const namespaceMetas = noted(
    'namespace-metas',
    graph.derive<NamespaceRecord, NamespaceMeta>({
      name: 'namespace-metas',
      primary: sources.namespaces,
      derive: ({ meta }, key) => only(key, { labels: meta.labels, annotations: meta.annotations }),
      equal: isDeepStrictEqual,
    }),
  );
  const authentications = noted(
    'request-authentications',
    graph.derive<RequestAuthenticationRecord, CompiledRequestAuthentication>({
      name: 'request-authentications',
      primary: sources.requestAuthentications,
      indexes: { target: ({ authentication }) => (authentication?.targets ?? []).map(targetName) },
      derive: (record, key) => only(key, compileRequestAuthentication(record, cluster)),
      equal: isDeepStrictEqual,
    }),
  );
  return { waypoints, namespaceMetas, authentications };
}

type NamespaceMeta = Pick<NamespaceRecord['meta'], 'labels' | 'annotations'>;

function worldOf(read: Reader, base: Base, cluster: ClusterFacts, namespace: string): BindingWorld {
  return {
    namespaceLabels: read.get(base.namespaceMetas, namespace)?.labels ?? new Map<string, string>(),
    clusterDomain: cluster.clusterDomain,
    waypoint: (key) => read.get(base.waypoints, key),
  };
}

function bindingStage({ graph, sources, cluster, noted }: Parts, base: Base): Collection<Binding> {
  return noted(
    'bindings',
    graph.derive<ServiceRecord, Binding>({
      name: 'bindings',
      primary: sources.services,
      derive: ({ meta }, key, read) =>
        only(
          key,
          bindingOf({ meta, what: 'service' }, worldOf(read, base, cluster, meta.namespace)),
        ),
      equal: isDeepStrictEqual,
    }),
  );
}

interface Asked {
  readonly read: Reader;
  readonly pod: PodRecord;
  readonly services: readonly ServiceKey[];
}

function workloadBinding(
  { cluster, policies }: Parts,
  base: Base,
  bindings: Collection<Binding>,
  { read, pod, services }: Asked,
): Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'> {
  const own = bindingOf(
    { meta: pod.meta, what: 'workload' },
    worldOf(read, base, cluster, pod.meta.namespace),
  );
  const identities = new Set<SpiffeId>();
  let requiredBy: string | undefined;
  const through = (binding: Binding | undefined, service: ServiceKey | undefined): void => {
    const bound = binding !== undefined && binding.kind !== 'none';
    const waypoint = bound ? read.get(base.waypoints, binding.gateway) : undefined;
    if (binding?.kind === 'bound' && waypoint !== undefined)
      identities.add(waypoint.gateway.identity);
    // What is attached to a Service holds for it whether or not somebody is there to enforce it.
    const targets = [
      ...(bound ? [`class ${waypointClass}`, `gateway ${binding.gateway}`] : []),
      ...(service === undefined ? [] : [`service ${service}`]),
    ];
    for (const target of targets) {
      const policy = read.find(policies, 'target', target).find(isEnforced);
      const [authentication] = read.find(base.authentications, 'target', target);
      requiredBy ??=
        policy?.policy && `AuthorizationPolicy ${policy.policy.namespace}/${policy.policy.name}`;
      requiredBy ??=
        authentication?.authentication &&
        `RequestAuthentication ${authentication.authentication.namespace}/${authentication.authentication.name}`;
    }
  };
  through(own, undefined);
  for (const service of services) {
    const [namespace = '', hostname = ''] = service.split('/');
    through(read.get(bindings, `${namespace}/${hostname.split('.')[0] ?? ''}`), service);
  }
  const annotations = read.get(base.namespaceMetas, pod.meta.namespace)?.annotations;
  const bypass =
    pod.meta.annotations.get(bypassWaypointAnnotation) ??
    annotations?.get(bypassWaypointAnnotation);
  return {
    ...(own.kind === 'none' ? {} : { waypoint: own.ref }),
    waypointIdentities: [...identities].sort(),
    ...(requiredBy === undefined || bypass === 'allow' ? {} : { waypointRequiredBy: requiredBy }),
  };
}

/** A policy that only rehearses or tells closes nothing. */
function isEnforced({ policy }: CompiledPolicy): boolean {
  return policy !== undefined && !policy.dryRun && policy.action !== 'AUDIT';
}

type RulesOf = (
  read: Reader,
  service: ServiceKey,
  namespace: string,
) => readonly CompiledDestinationRule[];

function routingStages(parts: Parts) {
  const { graph, sources, cluster, noted } = parts;
  const gatewayRoutes = gatewayRouteStages({ graph, sources, cluster, noted });
  const destinationRules = noted(
    'destination-rules',
    graph.derive<DestinationRuleRecord, CompiledDestinationRule>({
      name: 'destination-rules',
      primary: sources.destinationRules,
      indexes: { service: ({ service }) => (service === undefined ? [] : [service]) },
      derive: (record, key) => only(key, compileDestinationRule(record, cluster.clusterDomain)),
      equal: isDeepStrictEqual,
    }),
  );
  const rulesOf: RulesOf = (read, service, namespace) => {
    const all = read.find(destinationRules, 'service', service);
    // The owner's own come before those of the mesh; nobody else has a say.
    const own = all.filter((rule) => rule.namespace === namespace);
    return own.length > 0 ? own : all.filter((rule) => rule.namespace === cluster.rootNamespace);
  };
  const virtualServices = virtualServiceStage(parts, rulesOf, gatewayRoutes);
  const outputs = [
    routeOutput(parts, virtualServices, gatewayRoutes),
    clusterOutput(parts, rulesOf),
  ];
  return { destinationRules, virtualServices, gatewayRoutes, outputs };
}

function virtualServiceStage(
  { graph, sources, cluster, noted }: Parts,
  rulesOf: RulesOf,
  gatewayRoutes: GatewayRoutes,
): Collection<CompiledVirtualService> {
  const { clusterDomain } = cluster;
  const worldOfRoutes = (read: Reader): VirtualServiceWorld => ({
    clusterDomain,
    rootNamespace: cluster.rootNamespace,
    ports: ({ namespace, name }) =>
      read.get(sources.services, `${namespace}/${name}`)?.ports.map(({ port }) => port),
    subsets: (service) => {
      const of = serviceKey(service.namespace, hostnameOf(service, clusterDomain));
      const rules = rulesOf(read, of, service.namespace);
      return new Set(rules.flatMap(({ subsets }) => subsets.map(({ name }) => name)));
    },
    delegate: (namespace, name) => read.get(sources.virtualServices, `${namespace}/${name}`),
    regexProblem,
    insteadOf: (service) => {
      const first = attachedTo(read, gatewayRoutes, service).find(isOwn);
      return first && routeName(first);
    },
  });
  return noted(
    'virtual-services',
    graph.derive<VirtualServiceRecord, CompiledVirtualService>({
      name: 'virtual-services',
      primary: sources.virtualServices,
      indexes: { service: ({ services }) => services },
      derive: (record, key, read) => {
        // A delegate has no hosts and is compiled into who names it.
        const delegate = record.spec.ok && (record.spec.value.hosts ?? []).length === 0;
        return only(
          key,
          delegate ? delegateOf(record) : compileVirtualService(record, worldOfRoutes(read)),
        );
      },
      equal: isDeepStrictEqual,
    }),
  );
}

function routeOutput(
  { graph, sources, cluster }: Parts,
  virtualServices: Collection<CompiledVirtualService>,
  gatewayRoutes: GatewayRoutes,
): Collection<Upsert> {
  return graph.derive<ServiceRecord, Upsert>({
    name: 'route-output',
    primary: sources.services,
    derive: ({ meta, ports }, key, read) => {
      const service = serviceKey(meta.namespace, hostnameOf(meta, cluster.clusterDomain));
      const own = serviceOf(read, sources, cluster, key);
      const virtual = mergeVirtualServices(
        { service, namespace: meta.namespace, ports: ports.map(({ port }) => port) },
        cluster.rootNamespace,
        read.find(virtualServices, 'service', service),
      );
      const resource: RouteTable | undefined =
        own && routeTableOf(own, attachedTo(read, gatewayRoutes, service), virtual);
      return resource === undefined
        ? new Map<string, Upsert>()
        : only(key, { type: 'route', name: service, version: versionOf(resource), resource });
    },
    equal: sameVersion,
  }).output;
}

function clusterOutput({ graph, sources, cluster }: Parts, rulesOf: RulesOf): Collection<Upsert> {
  return graph.derive<ServiceRecord, Upsert>({
    name: 'cluster-output',
    primary: sources.services,
    derive: ({ meta }, key, read) => {
      const service = serviceKey(meta.namespace, hostnameOf(meta, cluster.clusterDomain));
      const rules = rulesOf(read, service, meta.namespace);
      const resource: Cluster | undefined = mergeDestinationRules(service, rules);
      return resource === undefined
        ? new Map<string, Upsert>()
        : only(key, { type: 'cluster', name: service, version: versionOf(resource), resource });
    },
    equal: sameVersion,
  }).output;
}

function delegateOf(record: VirtualServiceRecord): CompiledVirtualService {
  const { meta, problems } = record;
  const key = `${meta.namespace}/${meta.name}`;
  const { namespace, createdAtMs } = meta;
  const none = { exportedTo: [], services: [], http: [], tls: [], tcp: [] };
  return { key, namespace, createdAtMs, ...none, problems };
}
