import { isDeepStrictEqual } from 'node:util';

import type { Service, ServiceKey, SpiffeId, Workload } from '@ambit/api';
import { gatewayNameLabel, waypointClass, withoutWaypointAnnotation } from '@ambit/api';

import type {
  GatewayClassRecord,
  GatewayRecord,
  RequestAuthenticationRecord,
} from '../kube/decode/configuration.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import type { GatewayAccountRecord } from '../kube/decode/owner.ts';
import type { PodRecord } from '../kube/decode/pod.ts';
import type { ServiceRecord } from '../kube/decode/service.ts';
import type { CompiledPolicy } from '../translate/policy.ts';
import type { CompiledRequestAuthentication } from '../translate/request-authentication.ts';
import { compileRequestAuthentication } from '../translate/request-authentication.ts';
import { targetName } from '../translate/targets.ts';
import type { CompiledTelemetry } from '../translate/telemetry.ts';
import type {
  Binding,
  BindingWorld,
  ClassDefaults,
  CompiledWaypoint,
} from '../translate/waypoint.ts';
import {
  bindingOf,
  compileAnyWaypoint,
  compileWaypoint,
  obstacleOf,
} from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import type { LabelledCollections } from './labelled.ts';
import { labelledStages } from './labelled.ts';
import type { EntryCollections } from './service-entries.ts';
import { entryStages } from './service-entries.ts';
import type { RequirementCollections } from './requirements.ts';
import { requirement, requirementStages, targetsOf } from './requirements.ts';
import type { RoutingCollections } from './routing.ts';
import { routingStages } from './routing.ts';
import type { Sources } from './sources.ts';
import type { TelemetryCollections } from './telemetry.ts';
import { telemetryStages } from './telemetry.ts';
import { only } from './version.ts';
import { serviceBinding } from './waypoint-services.ts';

/** How the collections of waypoints hang together with the others. */
export interface WaypointCollections
  extends LabelledCollections, RoutingCollections, RequirementCollections {
  readonly waypoints: Collection<CompiledWaypoint>;
  /** By the key of a waypoint: why what bears its name is not it. */
  readonly obstacles: Collection<string>;
  /** By `namespace/name` of a Service. */
  readonly bindings: Collection<Binding>;
  readonly authentications: Collection<CompiledRequestAuthentication>;
  readonly telemetries: Collection<CompiledTelemetry>;
  readonly telemetryWorld: TelemetryCollections['telemetryWorld'];
  readonly entries: EntryCollections;
  /** What a workload's own waypoint and those of its services mean for it. */
  forWorkload(
    read: Reader,
    workload: Asking,
  ): Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'>;
  forService(read: Reader, record: ServiceRecord): Pick<Service, 'waypoint' | 'withoutWaypoint'>;
}

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly policies: Collection<CompiledPolicy>;
  readonly noted: Noted;
}

export function waypointStages(parts: Parts): WaypointCollections {
  const base = baseStages(parts);
  const telemetry = telemetryStages(parts);
  const bindings = bindingStage(parts, base);
  const withoutWaypoint = (read: Reader, meta: Metadata): Service['withoutWaypoint'] => {
    const annotation =
      meta.annotations.get(withoutWaypointAnnotation) ??
      read.get(base.namespaceMetas, meta.namespace)?.annotations.get(withoutWaypointAnnotation);
    return annotation === 'direct' ? 'direct' : 'refuse';
  };
  const entries = entryStages({
    ...parts,
    binding: (read, meta, what) =>
      bindingOf({ meta, what }, worldOf(read, base, parts.cluster, meta.namespace)),
    withoutWaypoint,
  });
  const required = requirementStages({ ...parts, ...base, bindings, entries });
  const routing = routingStages({ ...parts, ...base, entries, bindings });
  return {
    ...base,
    bindings,
    ...labelledStages(parts, (read, namespace) => worldOf(read, base, parts.cluster, namespace)),
    ...required,
    entries,
    ...routing,
    telemetries: telemetry.telemetries,
    telemetryWorld: telemetry.telemetryWorld,
    outputs: [...routing.outputs, telemetry.output],
    forService: (read, { meta }) => {
      const binding = read.get(bindings, `${meta.namespace}/${meta.name}`);
      return {
        ...(binding === undefined || binding.kind === 'none' ? {} : { waypoint: binding.ref }),
        withoutWaypoint: withoutWaypoint(read, meta),
      };
    },
    forWorkload: (read, pod) =>
      workloadBinding(parts, { ...base, ...required, bindings, entries }, read, pod),
  };
}

type Base = ReturnType<typeof baseStages>;

function baseStages({ graph, sources, cluster, noted }: Parts) {
  // Of a class only what holds for its Gateways, so that its status stops here.
  const classDefaults = noted(
    'class-defaults',
    graph.derive<GatewayClassRecord, ClassDefaults>({
      name: 'class-defaults',
      primary: sources.gatewayClasses,
      derive: ({ meta }, key) => only(key, { labels: meta.labels, annotations: meta.annotations }),
      equal: isDeepStrictEqual,
    }),
  );
  const waypoints = noted(
    'waypoints',
    graph.derive<GatewayRecord, CompiledWaypoint>({
      name: 'waypoints',
      primary: sources.gateways,
      derive: (record, key, read) =>
        only(key, compileWaypoint(record, cluster, read.get(classDefaults, waypointClass))),
      equal: (left, right) => left === right,
    }),
  );
  // What is bound to one of another control plane goes through it; nothing else of it is ours.
  const anyWaypoints = noted(
    'any-waypoints',
    graph.derive<GatewayRecord, CompiledWaypoint>({
      name: 'any-waypoints',
      primary: sources.gateways,
      derive: (record, key, read) =>
        only(
          key,
          read.get(waypoints, key) ??
            compileAnyWaypoint(record, cluster, read.get(classDefaults, waypointClass)),
        ),
      equal: (left, right) => left === right,
    }),
  );
  const obstacles = noted(
    'waypoint-obstacles',
    graph.derive<CompiledWaypoint, string>({
      name: 'waypoint-obstacles',
      primary: anyWaypoints,
      derive: (waypoint, key, read) => {
        const service = read.get(sources.services, key);
        const account = read.get(sources.gatewayAccounts, key);
        const holders = {
          service: service && (service.gatewayUid ?? ''),
          account: account?.gatewayUid,
          earlier: earlierPod(waypoint, account, read.find(sources.pods, 'identity', key)),
        };
        return only(key, obstacleOf(waypoint, holders));
      },
      equal: Object.is,
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
  return { waypoints, anyWaypoints, obstacles, namespaceMetas, authentications };
}

/**
 * A pod that runs since before the account was made, and is no proxy of the Gateway: it was started under another account
 * of the name, and bears the waypoint's identity all the same.
 */
function earlierPod(
  { meta }: CompiledWaypoint,
  account: GatewayAccountRecord | undefined,
  pods: readonly PodRecord[],
): string | undefined {
  if (account === undefined) return undefined;
  return pods.find(
    (pod) =>
      pod.meta.createdAtMs <= account.createdAtMs &&
      pod.meta.labels.get(gatewayNameLabel) !== meta.name,
  )?.meta.name;
}

type NamespaceMeta = Pick<NamespaceRecord['meta'], 'labels' | 'annotations'>;

function worldOf(read: Reader, base: Base, cluster: ClusterFacts, namespace: string): BindingWorld {
  return {
    namespaceLabels: read.get(base.namespaceMetas, namespace)?.labels ?? new Map<string, string>(),
    clusterDomain: cluster.clusterDomain,
    waypoint: (key) => read.get(base.anyWaypoints, key),
    obstacle: (key) => read.get(base.obstacles, key),
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

export interface Asking extends Pick<PodRecord, 'meta'> {
  readonly services: readonly ServiceKey[];
  /** Services select pods, and no other workloads. */
  readonly isPod: boolean;
}

function workloadBinding(
  { cluster, policies }: Parts,
  base: Base & RequirementCollections & Pick<WaypointCollections, 'bindings' | 'entries'>,
  read: Reader,
  pod: Asking,
): Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'> {
  const own = bindingOf(
    { meta: pod.meta, what: 'workload' },
    worldOf(read, base, cluster, pod.meta.namespace),
  );
  const identities = new Set<SpiffeId>();
  let requiredBy: string | undefined;
  const through = (binding: Binding | undefined, service?: ServiceKey, entry?: string): void => {
    const bound = binding !== undefined && binding.kind !== 'none';
    const waypoint = bound ? read.get(base.anyWaypoints, binding.gateway) : undefined;
    if (binding?.kind === 'bound' && waypoint !== undefined)
      identities.add(waypoint.gateway.identity);
    // What is attached to a Service holds for it whether or not somebody is there to enforce it.
    const gateway = bound ? binding.gateway : undefined;
    requiredBy ??= requirement(read, { policies, ...base }, targetsOf(gateway, service, entry));
  };
  through(own);
  for (const service of pod.services) {
    const [namespace = ''] = service.split('/');
    // Whoever names a pod of others as an endpoint does not get to speak for its clients.
    if (namespace !== pod.meta.namespace) continue;
    const of = base.entries.serviceByKey(read, service)?.entry;
    if (of !== undefined) through(of.binding, service, of.entry.key);
    else through(serviceBinding(read, base.bindings, service), service);
  }
  // A pod is ready before it is among the endpoints of its Service, and is not open in between.
  if (pod.isPod) requiredBy ??= base.requiredBySelector(read, pod);
  return {
    ...(own.kind === 'none' ? {} : { waypoint: own.ref }),
    waypointIdentities: [...identities].sort(),
    ...(requiredBy === undefined || base.bypasses(read, pod.meta)
      ? {}
      : { waypointRequiredBy: requiredBy }),
  };
}
