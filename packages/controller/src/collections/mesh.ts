import { isDeepStrictEqual } from 'node:util';

import type { Locality, PolicyKey, Service, ServiceMembership, Upsert } from '@ambit/api';
import { policyKey, serviceKey, trafficDistributionAnnotation } from '@ambit/api';

import type { EndpointSliceRecord } from '../kube/decode/endpoint-slice.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import type { NodeRecord } from '../kube/decode/node.ts';
import type { PodRecord } from '../kube/decode/pod.ts';
import type { PeerAuthenticationRecord, PolicyRecord } from '../kube/decode/policy.ts';
import type { ServiceRecord } from '../kube/decode/service.ts';
import type { Endpoint } from '../translate/endpoint.ts';
import { isEndpointOf, memberships, sliceEndpoints } from '../translate/endpoint.ts';
import { authorizersOf, defaultMeshConfig } from '../translate/mesh-config.ts';
import type { CompiledPeerAuthentication } from '../translate/peer-authentication.ts';
import { compilePeerAuthentication, resolveMtls } from '../translate/peer-authentication.ts';
import type { CompiledPolicy } from '../translate/policy.ts';
import { compilePolicy } from '../translate/policy.ts';
import type { CompiledRequestAuthentication } from '../translate/request-authentication.ts';
import { compileService } from '../translate/service.ts';
import { targetName } from '../translate/targets.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import { compileWorkload, isWorkload, networkLabel } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Derived, Noted, Reader } from './derived.ts';
import { Graph } from './derived.ts';
import { entryWorkloadStages } from './entry-workloads.ts';
import type { JudgedCollections } from './judged.ts';
import { judgedStages } from './judged.ts';
import type { Labels } from './matches.ts';
import { bySelector, Matches } from './matches.ts';
import type { PeerFinders } from './peers.ts';
import { peerFinders } from './peers.ts';
import type { RateLimitCollections } from './rate-limits.ts';
import { rateLimitStages } from './rate-limits.ts';
import { membershipsOf } from './service-entries.ts';
import type { MeshBasics, Sources } from './sources.ts';
import { createSources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';
import type { WaypointCollections } from './waypoints.ts';
import { waypointStages } from './waypoints.ts';

/** Everything that is compiled, and the way to bring it up to date. */
export interface MeshCollections {
  readonly sources: Sources;
  readonly compiledPolicies: Collection<CompiledPolicy>;
  readonly compiledPeerAuthentications: Collection<CompiledPeerAuthentication>;
  readonly peers: PeerFinders;
  readonly l7: WaypointCollections;
  readonly rateLimits: RateLimitCollections;
  /** What is wrong with what is attached to targets. */
  readonly judged: JudgedCollections;
  /** Waypoints that have a ready endpoint, by key. */
  readonly programmed: Collection<boolean>;
  /** What proxies are to hold, by type; every value has its version. */
  readonly outputs: readonly Collection<Upsert>[];
  flush(): void;
  /** How often each stage has computed a value. */
  recomputations(): ReadonlyMap<string, number>;
}

const everywhere = '*';

export function createMeshCollections(cluster: ClusterFacts): MeshCollections {
  const graph = new Graph();
  const sources = createSources();
  const stages: (readonly [string, Derived<never, never>])[] = [];
  const noted = <P, V>(name: string, derived: Derived<P, V>): Collection<V> => {
    stages.push([name, derived as unknown as Derived<never, never>]);
    return derived.output;
  };
  const base = baseStages(graph, sources, cluster, noted);
  const policies = policyStages(graph, sources, cluster, noted);
  const l7 = waypointStages({ graph, sources, cluster, policies: policies.compiled, noted });
  const { services, endpoints } = serviceStages(graph, sources, cluster, { base, noted, l7 });
  const rulesFor = (
    read: Reader,
    meta: Metadata,
    of: readonly ServiceMembership[],
    isPod = false,
  ) => ({
    network: read.get(base.networks, cluster.rootNamespace) ?? '',
    mtls: resolveMtls(applicable(read, policies, meta, cluster), meta),
    policies: selecting(read, policies.selecting, meta),
    waypoint: l7.forWorkload(read, { meta, isPod, services: of.map(({ service }) => service) }),
  });
  const workloads = noted(
    'workloads',
    graph.derive<PodRecord, Upsert>({
      name: 'workloads',
      primary: sources.pods,
      derive: (pod, key, read) => {
        if (!isWorkload(pod)) return new Map<string, Upsert>();
        const of = servicesOf(read, pod, [endpoints, l7.entries.endpoints], l7.entries);
        const resource = compileWorkload(
          {
            pod,
            locality: pod.node === '' ? undefined : read.get(base.localities, pod.node),
            services: of,
            ...rulesFor(read, pod.meta, of, true),
          },
          cluster,
        );
        return only(key, {
          type: 'workload',
          name: resource.uid,
          version: versionOf(resource),
          resource,
        });
      },
      equal: sameVersion,
    }),
  );
  const rateLimits = rateLimitStages({ graph, sources, cluster, noted });
  const outputs = [
    rateLimits.output,
    settingsStage(graph, sources, meshConfigKey(cluster)),
    policyOutputStage(graph, policies.compiled),
    authenticationOutputStage(graph, l7),
    gatewayOutputStage(graph, l7),
    serviceOutputStage(graph, services),
    l7.entries.services,
    ...l7.outputs,
    workloads,
    ...entryWorkloadStages({ graph, sources, cluster, entries: l7.entries, endpoints, rulesFor }),
  ];
  const programmed = programmedStage(graph, l7, endpoints);
  return {
    sources,
    compiledPolicies: policies.compiled,
    compiledPeerAuthentications: policies.peer,
    peers: policies.peers,
    l7,
    rateLimits,
    judged: judgedStages({ graph, sources, cluster, noted }, { policies, l7, rateLimits }),
    programmed,
    outputs,
    flush: () => graph.flush(),
    recomputations: () => new Map(stages.map(([name, derived]) => [name, derived.recomputations])),
  };
}

/** Of nodes and namespaces only what others use, so that a node's heartbeat stops here. */
function baseStages(graph: Graph, sources: Sources, cluster: ClusterFacts, noted: Noted) {
  const localities = noted(
    'localities',
    graph.derive<NodeRecord, Locality>({
      name: 'localities',
      primary: sources.nodes,
      derive: (node, key) => only(key, node.locality),
      equal: isDeepStrictEqual,
    }),
  );
  const namespaces = noted(
    'namespaces',
    graph.derive<NamespaceRecord, string>({
      name: 'namespaces',
      primary: sources.namespaces,
      derive: (namespace, key) =>
        only(key, namespace.meta.annotations.get(trafficDistributionAnnotation) ?? ''),
      equal: Object.is,
    }),
  );
  const networks = noted(
    'networks',
    graph.derive<NamespaceRecord, string>({
      name: 'networks',
      primary: sources.namespaces,
      derive: (namespace, key) =>
        key === cluster.rootNamespace
          ? only(key, namespace.meta.labels.get(networkLabel) ?? '')
          : new Map<string, string>(),
      equal: Object.is,
    }),
  );
  return { localities, namespaces, networks };
}

interface PolicySelector {
  readonly key: PolicyKey;
  readonly namespace: string;
  readonly labels: ReadonlyMap<string, string>;
}

function policyStages(graph: Graph, sources: Sources, cluster: ClusterFacts, noted: Noted) {
  const compiled = noted(
    'policies',
    graph.derive<PolicyRecord, CompiledPolicy>({
      name: 'policies',
      primary: sources.policies,
      indexes: { target: ({ policy }) => targetsOf(policy) },
      derive: (record, key, read) => {
        // Only policies of this action care who is there.
        const asks = record.spec.ok && record.spec.value.action === 'CUSTOM';
        const known = asks ? read.get(sources.meshConfig, meshConfigKey(cluster)) : undefined;
        return only(key, compilePolicy(record, cluster, authorizersOf(known)));
      },
      equal: isDeepStrictEqual,
    }),
  );
  // Apart from the policies, so that a changed rule is no business of the workloads that are selected.
  const selectors = noted(
    'policy-selectors',
    graph.derive<CompiledPolicy, PolicySelector>({
      name: 'policy-selectors',
      primary: compiled,
      derive: ({ policy, selector }, key) => {
        if (policy === undefined || selector === undefined)
          return new Map<string, PolicySelector>();
        // Istio: a selector in the root namespace selects workloads of every namespace.
        const namespace =
          policy.namespace === cluster.rootNamespace ? everywhere : policy.namespace;
        return only(key, {
          key: policyKey(policy.namespace, policy.name),
          namespace,
          labels: selector,
        });
      },
      equal: isDeepStrictEqual,
    }),
  );
  const peer = noted(
    'peer-authentications',
    graph.derive<PeerAuthenticationRecord, CompiledPeerAuthentication>({
      name: 'peer-authentications',
      primary: sources.peerAuthentications,
      derive: (record, key) => only(key, compilePeerAuthentication(record, cluster.rootNamespace)),
      equal: isDeepStrictEqual,
    }),
  );
  const selecting = new Matches(
    selectors,
    bySelector<PolicySelector>({
      scope: ({ namespace }) => namespace,
      selector: ({ labels }) => labels,
    }),
  );
  return { compiled, selecting, peer, peers: peerFinders(peer) };
}

function targetsOf(policy: CompiledPolicy['policy']): readonly string[] {
  return policy?.scope.kind === 'targeted' ? policy.scope.targets.map(targetName) : [];
}

interface ServiceStageParts {
  readonly l7: WaypointCollections;
  readonly base: { readonly namespaces: Collection<string> };
  readonly noted: Noted;
}

function serviceStages(
  graph: Graph,
  sources: Sources,
  cluster: ClusterFacts,
  { base, noted, l7 }: ServiceStageParts,
) {
  const services = noted(
    'services',
    graph.derive<ServiceRecord, Service>({
      name: 'services',
      primary: sources.services,
      derive: (record, key, read) => {
        const distribution = read.get(base.namespaces, record.meta.namespace);
        const waypoint = l7.forService(read, record);
        return only(key, compileService(record, distribution, cluster.clusterDomain, waypoint));
      },
      equal: isDeepStrictEqual,
    }),
  );
  const endpoints = noted(
    'endpoints',
    graph.derive<EndpointSliceRecord, Endpoint>({
      name: 'endpoints',
      primary: sources.endpointSlices,
      indexes: {
        pod: (one) => (one.pod === undefined ? [] : [one.pod.key]),
        address: (one) => (one.pod === undefined ? one.addresses : []),
        service: (one) => [one.service],
      },
      derive: (slice, _key, read) => {
        const service = read.get(services, `${slice.meta.namespace}/${slice.service}`);
        return service === undefined ? new Map<string, Endpoint>() : sliceEndpoints(slice, service);
      },
      equal: isDeepStrictEqual,
    }),
  );
  return { services, endpoints };
}

/** Of each level the one that holds, so that what it hides is no business of the workload's. */
function applicable(
  read: Reader,
  { peer, peers }: ReturnType<typeof policyStages>,
  { namespace, labels }: Metadata,
  { rootNamespace }: ClusterFacts,
): readonly CompiledPeerAuthentication[] {
  const wide = [...new Set([rootNamespace, namespace])].flatMap((of) => {
    const first = read.oldest(peers.wide, of);
    return first === undefined ? [] : (read.get(peer, first.key) ?? []);
  });
  return [...wide, ...read.matching(peers.selecting, namespace, labels)];
}

function selecting(
  read: Reader,
  selectors: Matches<PolicySelector, Labels>,
  { namespace, labels }: Metadata,
): readonly PolicyKey[] {
  return [
    ...read.matching(selectors, everywhere, labels),
    ...read.matching(selectors, namespace, labels),
  ]
    .map((one) => one.key)
    .sort();
}

function endpointsOf(
  read: Reader,
  endpoints: Collection<Endpoint>,
  pod: PodRecord,
): readonly Endpoint[] {
  const byPod = read.find(endpoints, 'pod', `${pod.meta.namespace}/${pod.meta.name}`);
  const byAddress = pod.addresses.flatMap((ip) => read.find(endpoints, 'address', ip));
  return [...byPod, ...byAddress].filter((one) => isEndpointOf(one, pod));
}

/** Of which services a pod is an endpoint: by address or reference, and by what ServiceEntries select. */
function servicesOf(
  read: Reader,
  pod: PodRecord,
  endpoints: readonly Collection<Endpoint>[],
  entries: WaypointCollections['entries'],
): readonly ServiceMembership[] {
  const named = endpoints.flatMap((one) => endpointsOf(read, one, pod));
  const { namespace, labels } = pod.meta;
  const selecting = entries.selecting(read, namespace, labels);
  const chosen = selecting.flatMap((one) => membershipsOf(one, undefined));
  return withSelecting(memberships(named), chosen, pod);
}

/** A pod whose labels a ServiceEntry selects is an endpoint while it is ready. */
function withSelecting(
  named: readonly ServiceMembership[],
  selecting: readonly ServiceMembership[],
  pod: PodRecord,
): readonly ServiceMembership[] {
  if (selecting.length === 0) return named;
  const ready = pod.ready && !pod.meta.deleting;
  const known = new Set(named.map(({ service }) => service));
  const more = selecting.filter(({ service }) => !known.has(service));
  return [...named, ...more.map((one) => ({ ...one, ready }))];
}

function meshConfigKey({ rootNamespace }: ClusterFacts): string {
  return `${rootNamespace}/istio`;
}

function settingsStage(graph: Graph, sources: Sources, configKey: string): Collection<Upsert> {
  return graph.derive<MeshBasics, Upsert>({
    name: 'mesh-output',
    primary: sources.settings,
    derive: (basics, _key, read) => {
      const { providers, defaultProviders, traceSamplingPercent } =
        read.get(sources.meshConfig, configKey) ?? defaultMeshConfig;
      const resource = { ...basics, providers, defaultProviders, traceSamplingPercent };
      return only('default', {
        type: 'mesh',
        name: 'default',
        version: versionOf(resource),
        resource,
      });
    },
    equal: sameVersion,
  }).output;
}

function policyOutputStage(graph: Graph, compiled: Collection<CompiledPolicy>): Collection<Upsert> {
  return graph.derive<CompiledPolicy, Upsert>({
    name: 'policy-output',
    primary: compiled,
    derive: ({ policy }, key) => {
      if (policy === undefined) return new Map<string, Upsert>();
      const name = policyKey(policy.namespace, policy.name);
      return only(key, { type: 'policy', name, version: versionOf(policy), resource: policy });
    },
    equal: sameVersion,
  }).output;
}

function serviceOutputStage(graph: Graph, services: Collection<Service>): Collection<Upsert> {
  return graph.derive<Service, Upsert>({
    name: 'service-output',
    primary: services,
    derive: (resource, key) => {
      const name = serviceKey(resource.namespace, resource.hostname);
      return only(key, { type: 'service', name, version: versionOf(resource), resource });
    },
    equal: sameVersion,
  }).output;
}

function authenticationOutputStage(graph: Graph, l7: WaypointCollections): Collection<Upsert> {
  return graph.derive<CompiledRequestAuthentication, Upsert>({
    name: 'authentication-output',
    primary: l7.authentications,
    derive: ({ authentication: resource }, key) =>
      resource === undefined
        ? new Map<string, Upsert>()
        : only(key, { type: 'authentication', name: key, version: versionOf(resource), resource }),
    equal: sameVersion,
  }).output;
}

function gatewayOutputStage(graph: Graph, l7: WaypointCollections): Collection<Upsert> {
  return graph.derive<CompiledWaypoint, Upsert>({
    name: 'gateway-output',
    primary: l7.waypoints,
    derive: ({ gateway: resource }, key) =>
      only(key, { type: 'gateway', name: key, version: versionOf(resource), resource }),
    equal: sameVersion,
  }).output;
}

/** A waypoint serves when somebody stands behind its Service, and that is its own. */
function programmedStage(
  graph: Graph,
  l7: WaypointCollections,
  endpoints: Collection<Endpoint>,
): Collection<boolean> {
  return graph.derive<CompiledWaypoint, boolean>({
    name: 'programmed',
    primary: l7.waypoints,
    derive: ({ gateway }, key, read) =>
      only(
        key,
        read.get(l7.obstacles, key) === undefined &&
          read.find(endpoints, 'service', gateway.service).some(({ ready }) => ready),
      ),
    equal: Object.is,
  }).output;
}
