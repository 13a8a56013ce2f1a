import type { MtlsSettings, PolicyKey, ServiceMembership, Upsert, Workload } from '@ambit/api';
import {
  endpointSliceUid,
  serviceEntryEndpointUid,
  useWaypointLabel,
  workloadEntryUid,
} from '@ambit/api';

import type { Metadata } from '../kube/decode/fields.ts';
import type { Endpoint } from '../translate/endpoint.ts';
import { memberships } from '../translate/endpoint.ts';
import type { ResolvedEntry } from '../translate/entry-claims.ts';
import type { EntryEndpoint } from '../translate/entry-endpoint.ts';
import { isReservedAddress } from '../translate/entry-endpoint.ts';
import { compileEntryWorkload } from '../translate/entry-workload.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Reader } from './derived.ts';
import type { BoundWorkloadEntry, EntryCollections } from './service-entries.ts';
import { keyOf, labelsOf, membershipsOf } from './service-entries.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly entries: EntryCollections;
  /** Those of EndpointSlices. */
  readonly endpoints: Collection<Endpoint>;
  /** What holds for a workload by its namespace and labels. */
  readonly rulesFor: (
    read: Reader,
    meta: Metadata,
    services: readonly ServiceMembership[],
  ) => {
    readonly network: string;
    readonly mtls: MtlsSettings;
    readonly policies: readonly PolicyKey[];
    readonly waypoint: Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'>;
  };
}

/** The workloads that are no pods. An address that a pod has is that pod's, and makes no workload here. */
export function entryWorkloadStages(parts: Parts): readonly Collection<Upsert>[] {
  return [workloadEntryStage(parts), inlineStage(parts), sliceStage(parts)];
}

function workloadEntryStage(parts: Parts): Collection<Upsert> {
  const { graph, cluster, entries } = parts;
  return graph.derive<BoundWorkloadEntry, Upsert>({
    name: 'workload-entry-output',
    primary: entries.workloadEntries,
    derive: ({ meta, endpoint }, key, read) => {
      if (endpoint === undefined || isPod(read, parts, endpoint)) return new Map<string, Upsert>();
      const labels = labelsOf(meta, endpoint);
      const services = entries
        .selecting(read, meta.namespace, labels)
        .filter(({ entry }) => endpoint.ip !== undefined || entry.resolution !== 'static')
        .flatMap((one) => membershipsOf(one, endpoint));
      const uid = workloadEntryUid(cluster.clusterId, meta.namespace, meta.name);
      return only(key, upsertOf(parts, read, { uid, endpoint, services, meta, labels }));
    },
    equal: sameVersion,
  }).output;
}

function inlineStage(parts: Parts): Collection<Upsert> {
  const { graph, cluster, entries } = parts;
  return graph.derive<ResolvedEntry, Upsert>({
    name: 'entry-endpoint-output',
    primary: entries.resolved,
    derive: (one, key, read) => {
      const { meta } = one.entry;
      const found = new Map<string, Upsert>();
      for (const [endpoint, services] of endpointsOf(one)) {
        const address = endpoint.ip ?? endpoint.hostname ?? '';
        if (isPod(read, parts, endpoint)) continue;
        const uid = serviceEntryEndpointUid(cluster.clusterId, meta.namespace, meta.name, address);
        const { labels } = endpoint;
        // An endpoint is bound by itself, not by what its ServiceEntry is bound to.
        const own = { ...meta, labels: new Map([...labels, [useWaypointLabel, 'none'] as const]) };
        found.set(
          `${key}#${address}`,
          upsertOf(parts, read, { uid, endpoint, services, meta: own, labels }),
        );
      }
      return found;
    },
    equal: sameVersion,
  }).output;
}

/** Addresses that somebody wrote into an EndpointSlice, as the API server does for the Service `kubernetes`. */
function sliceStage(parts: Parts): Collection<Upsert> {
  const { graph, sources, cluster, endpoints } = parts;
  return graph.derive<Endpoint, Upsert>({
    name: 'slice-endpoint-output',
    primary: endpoints,
    derive: (one, key, read) => {
      const [ip] = one.addresses;
      if (one.pod !== undefined || ip === undefined) return nothing;
      const slice = read.get(sources.endpointSlices, key.slice(0, key.indexOf('#')));
      if (slice === undefined) return nothing;
      const endpoint = { ...bare, ip };
      if (isReservedAddress(ip) || isPod(read, parts, endpoint)) return nothing;
      const { namespace, name } = slice.meta;
      const uid = endpointSliceUid(cluster.clusterId, namespace, name, ip);
      const meta = { ...slice.meta, labels: new Map([[useWaypointLabel, 'none']]) };
      const services = memberships([one]);
      return only(
        key,
        upsertOf(parts, read, { uid, endpoint, services, meta, labels: bare.labels }),
      );
    },
    equal: sameVersion,
  }).output;
}

const nothing: ReadonlyMap<string, Upsert> = new Map();

/** Those that are written, or what stands for them: the hosts' own names, or the address that clients ask for. */
function endpointsOf(
  one: ResolvedEntry,
): readonly (readonly [EntryEndpoint, readonly ServiceMembership[]])[] {
  const { entry, services } = one;
  const written = entry.endpoints.map(
    (endpoint) => [endpoint, membershipsOf(one, endpoint)] as const,
  );
  if (written.length > 0 || entry.selector !== undefined) return written;
  switch (entry.resolution) {
    case 'dns':
    case 'dns-round-robin':
      return services.map((service) => {
        const endpoint = { ...bare, hostname: service.hostname };
        const key = keyOf(service);
        return [endpoint, membershipsOf(one, endpoint).filter((of) => of.service === key)];
      });
    case 'none': {
      const [ip, another] = services.flatMap(({ vips }) => vips);
      if (ip === undefined || another !== undefined) return [];
      const endpoint = { ...bare, ip };
      return [[endpoint, membershipsOf(one, endpoint)]];
    }
    case 'static':
      return [];
  }
}

const bare: EntryEndpoint = {
  ports: new Map(),
  labels: new Map(),
  network: '',
  locality: { region: '', zone: '', subzone: '' },
  serviceAccount: '',
};

function isPod(read: Reader, { sources }: Parts, { ip }: EntryEndpoint): boolean {
  return (
    ip !== undefined &&
    read.find(sources.pods, 'address', ip).some(({ hostNetwork }) => !hostNetwork)
  );
}

interface Made {
  readonly uid: Workload['uid'];
  readonly endpoint: EntryEndpoint;
  readonly services: readonly ServiceMembership[];
  readonly meta: Metadata;
  readonly labels: ReadonlyMap<string, string>;
}

function upsertOf(
  { cluster, rulesFor }: Parts,
  read: Reader,
  { uid, endpoint, services, meta, labels }: Made,
): Upsert {
  const resource = compileEntryWorkload(
    {
      uid,
      name: meta.name,
      namespace: meta.namespace,
      endpoint,
      labels,
      services,
      ...rulesFor(read, { ...meta, labels: new Map([...labels, ...meta.labels]) }, services),
    },
    cluster,
  );
  return { type: 'workload', name: uid, version: versionOf(resource), resource };
}
