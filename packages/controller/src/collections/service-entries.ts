import { isDeepStrictEqual } from 'node:util';

import type {
  Hostname,
  IpAddress,
  Service,
  ServiceKey,
  ServiceMembership,
  Upsert,
} from '@ambit/api';
import { parseHostname, serviceKey } from '@ambit/api';

import type { ServiceEntryRecord, WorkloadEntryRecord } from '../kube/decode/configuration.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { Endpoint } from '../translate/endpoint.ts';
import type { ClaimWorld, ResolvedEntry } from '../translate/entry-claims.ts';
import { resolveEntry } from '../translate/entry-claims.ts';
import type { CompiledWorkloadEntry, EntryEndpoint } from '../translate/entry-endpoint.ts';
import { compileWorkloadEntry } from '../translate/entry-endpoint.ts';
import type { ServiceName } from '../translate/istio-host.ts';
import { serviceOfHost } from '../translate/istio-host.ts';
import type { CompiledServiceEntry } from '../translate/service-entry.ts';
import { compileServiceEntry, isPublic } from '../translate/service-entry.ts';
import type { Binding } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import type { Labels } from './matches.ts';
import { byLabels, bySelector, Matches } from './matches.ts';
import { Oldest } from './oldest.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly noted: Noted;
  /** To what an object of this kind and metadata is bound. */
  readonly binding: (read: Reader, meta: Metadata, what: 'service' | 'workload') => Binding;
  readonly withoutWaypoint: (read: Reader, meta: Metadata) => Service['withoutWaypoint'];
}

/** ServiceEntries and WorkloadEntries, as the other collections ask for them. */
export interface EntryCollections {
  /** By `namespace/name` of the ServiceEntry. */
  readonly resolved: Collection<ResolvedEntry>;
  readonly workloadEntries: Collection<BoundWorkloadEntry>;
  /** Where endpoints are addresses; a pod that has one of them is that endpoint. */
  readonly endpoints: Collection<Endpoint>;
  readonly services: Collection<Upsert>;
  /** A service of an entry by its key. */
  serviceByKey(read: Reader, key: ServiceKey): FoundService | undefined;
  /** The services of one ServiceEntry. */
  servicesOf(read: Reader, namespace: string, name: string): readonly Service[];
  /** The host of an entry that a resource of `namespace` means. */
  byHost(read: Reader, host: string, namespace: string): ServiceName | undefined;
  /** What becomes of one that need not be stored yet. */
  resolve(read: Reader, entry: CompiledServiceEntry): ResolvedEntry;
  /** To what a WorkloadEntry is bound. */
  workloadBinding(read: Reader, meta: Metadata): Binding;
  /** The ServiceEntries of a namespace that select the labels. */
  selecting(
    read: Reader,
    namespace: string,
    labels: ReadonlyMap<string, string>,
  ): readonly ResolvedEntry[];
}

export interface BoundWorkloadEntry extends CompiledWorkloadEntry {
  readonly binding: Binding;
}

export interface FoundService {
  readonly service: Service;
  readonly entry: ResolvedEntry;
}

export function entryStages(parts: Parts): EntryCollections {
  const { graph, sources, noted } = parts;
  const compiled = noted(
    'service-entries',
    graph.derive<ServiceEntryRecord, CompiledServiceEntry>({
      name: 'service-entries',
      primary: sources.serviceEntries,
      derive: (record, key) => only(key, compileServiceEntry(record)),
      equal: isDeepStrictEqual,
    }),
  );
  const claims = new Oldest(compiled, {
    claims: claimsOf,
    createdAtMs: (one) => one.meta.createdAtMs,
  });
  const workloadBinding = (read: Reader, meta: Metadata) => parts.binding(read, meta, 'workload');
  const workloadEntries = noted(
    'workload-entries',
    graph.derive<WorkloadEntryRecord, BoundWorkloadEntry>({
      name: 'workload-entries',
      primary: sources.workloadEntries,
      indexes: { namespace: ({ meta }) => [meta.namespace] },
      derive: (record, key, read) =>
        only(key, {
          ...compileWorkloadEntry(record),
          binding: workloadBinding(read, record.meta),
        }),
      equal: isDeepStrictEqual,
    }),
  );
  const resolve = resolverOf(parts, claims);
  const resolved = resolvedStage(parts, compiled, resolve);
  const selectors = new Matches(
    resolved,
    bySelector<ResolvedEntry>({
      scope: ({ entry }) => (entry.selector === undefined ? undefined : entry.meta.namespace),
      selector: ({ entry }) => entry.selector ?? new Map<string, string>(),
    }),
  );
  const selecting: EntryCollections['selecting'] = (read, namespace, labels) =>
    read.matching(selectors, namespace, labels);
  const endpoints = endpointStage(parts, resolved, workloadEntries);
  return {
    resolved,
    workloadEntries,
    endpoints,
    services: serviceStage(graph, resolved),
    serviceByKey: (read, key) => findService(read, resolved, key),
    servicesOf: (read, namespace, name) =>
      read.get(resolved, `${namespace}/${name}`)?.services ?? [],
    byHost: (read, host, namespace) => entryHost(read, resolved, host, namespace),
    resolve,
    workloadBinding,
    selecting,
  };
}

type Resolve = EntryCollections['resolve'];

function resolverOf(
  { sources, cluster, binding, withoutWaypoint }: Parts,
  claims: Oldest<CompiledServiceEntry>,
): Resolve {
  return (read, entry) =>
    resolveEntry(
      entry,
      binding(read, entry.meta, 'service'),
      withoutWaypoint(read, entry.meta),
      claimWorld(read, sources, claims, cluster.clusterDomain),
    );
}

function resolvedStage(
  { graph, noted }: Parts,
  compiled: Collection<CompiledServiceEntry>,
  resolve: Resolve,
): Collection<ResolvedEntry> {
  return noted(
    'resolved-entries',
    graph.derive<CompiledServiceEntry, ResolvedEntry>({
      name: 'resolved-entries',
      primary: compiled,
      indexes: {
        service: ({ services }) => services.map(keyOf),
        hostname: ({ services }) => services.map(({ hostname }) => hostname),
        gateway: ({ binding }) => (binding.kind === 'bound' ? [binding.gateway] : []),
      },
      derive: (entry, key, read) => only(key, resolve(read, entry)),
      equal: isDeepStrictEqual,
    }),
  );
}

function claimWorld(
  read: Reader,
  sources: Sources,
  claims: Oldest<CompiledServiceEntry>,
  clusterDomain: string,
): ClaimWorld {
  return {
    clusterDomain,
    serviceOf: (what) => {
      const [byAddress] = read.find(sources.services, 'address', what);
      if (byAddress !== undefined) return objectKey(byAddress.meta);
      const name = clusterName(what, clusterDomain);
      const found = name && read.get(sources.services, objectKey(name));
      return found && objectKey(found.meta);
    },
    podOf: (ip) => {
      const [pod] = read.find(sources.pods, 'address', ip);
      return pod && objectKey(pod.meta);
    },
    firstOf: (what, { namespace, except }) =>
      read.oldest(claims, namespace === undefined ? what : `${namespace} ${what}`, except),
  };
}

/** What it claims beside others of its namespace, and where others see it beside those of all namespaces. */
function claimsOf(entry: CompiledServiceEntry): readonly string[] {
  const claimed = [...entry.hosts, ...entry.vips];
  return [
    ...claimed.map((what) => `${entry.meta.namespace} ${what}`),
    ...(isPublic(entry) ? claimed : []),
  ];
}

function clusterName(what: Hostname | IpAddress, clusterDomain: string): ServiceName | undefined {
  return what.endsWith(`.svc.${clusterDomain}`)
    ? serviceOfHost(what, '', clusterDomain)
    : undefined;
}

function endpointStage(
  { graph, noted }: Parts,
  resolved: Collection<ResolvedEntry>,
  workloadEntries: Collection<BoundWorkloadEntry>,
): Collection<Endpoint> {
  const labelled = new Matches(
    workloadEntries,
    byLabels<BoundWorkloadEntry>({
      scope: ({ meta, endpoint }) => (endpoint === undefined ? undefined : meta.namespace),
      labels: ({ meta, endpoint }) =>
        endpoint === undefined ? new Map() : labelsOf(meta, endpoint),
    }),
  );
  return noted(
    'entry-endpoints',
    graph.derive<ResolvedEntry, Endpoint>({
      name: 'entry-endpoints',
      primary: resolved,
      indexes: { pod: () => [], address: ({ addresses }) => addresses },
      derive: (one, key, read) => {
        const selected = selectedBy(read, labelled, one.entry);
        const endpoints = new Map<string, Endpoint>();
        for (const endpoint of [...one.entry.endpoints, ...selected]) {
          if (endpoint.ip === undefined) continue;
          for (const membership of membershipsOf(one, endpoint)) {
            endpoints.set(`${key}#${endpoint.ip}#${membership.service}`, {
              ...membership,
              addresses: [endpoint.ip],
              pod: undefined,
            });
          }
        }
        return endpoints;
      },
      equal: isDeepStrictEqual,
    }),
  );
}

/** The endpoints of the WorkloadEntries that a ServiceEntry selects. */
function selectedBy(
  read: Reader,
  labelled: Matches<BoundWorkloadEntry, Labels>,
  { selector, meta }: CompiledServiceEntry,
): readonly EntryEndpoint[] {
  if (selector === undefined) return [];
  return read
    .matching(labelled, meta.namespace, selector)
    .flatMap(({ endpoint }) => endpoint ?? []);
}

/** Labels of a WorkloadEntry: those of its spec, and those of its metadata where the spec has none of the name. */
export function labelsOf(meta: Metadata, endpoint: EntryEndpoint): ReadonlyMap<string, string> {
  return new Map([...meta.labels, ...endpoint.labels]);
}

/** `endpoint` undefined for a pod, of which the service's target ports are meant. */
export function membershipsOf(
  { services, entry }: ResolvedEntry,
  endpoint: EntryEndpoint | undefined,
): readonly ServiceMembership[] {
  const ports = entry.ports.map(({ name, port, targetPort }) => ({
    servicePort: port,
    targetPort: endpoint?.ports.get(name) ?? targetPort,
  }));
  const weight = endpoint?.weight;
  return services.map((service) => ({
    service: keyOf(service),
    ready: true,
    ...(weight === undefined ? {} : { weight }),
    ports,
  }));
}

export function keyOf(service: Service): ServiceKey {
  return serviceKey(service.namespace, service.hostname);
}

function serviceStage(graph: Graph, resolved: Collection<ResolvedEntry>): Collection<Upsert> {
  return graph.derive<ResolvedEntry, Upsert>({
    name: 'entry-service-output',
    primary: resolved,
    derive: ({ services }, key) =>
      new Map(
        services.map((resource): readonly [string, Upsert] => [
          `${key}#${resource.hostname}`,
          { type: 'service', name: keyOf(resource), version: versionOf(resource), resource },
        ]),
      ),
    equal: sameVersion,
  }).output;
}

function findService(
  read: Reader,
  resolved: Collection<ResolvedEntry>,
  key: ServiceKey,
): FoundService | undefined {
  const [entry] = read.find(resolved, 'service', key);
  const service = entry?.services.find((one) => keyOf(one) === key);
  return entry && service && { entry, service };
}

/** An entry of the own namespace is meant first, and of the others the one that is not kept to its own. */
function entryHost(
  read: Reader,
  resolved: Collection<ResolvedEntry>,
  host: string,
  namespace: string,
): ServiceName | undefined {
  const hostname = parseHostname(host);
  if (!hostname.ok) return undefined;
  const visible = read
    .find(resolved, 'hostname', hostname.value)
    .flatMap(({ services }) => services.filter((one) => one.hostname === hostname.value))
    .filter(({ visibleTo }) => visibleTo === undefined || visibleTo.includes(namespace));
  const found = visible.find((one) => one.namespace === namespace) ?? visible[0];
  return found && { namespace: found.namespace, name: found.name, hostname: found.hostname };
}
