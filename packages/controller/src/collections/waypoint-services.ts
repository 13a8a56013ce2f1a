import type { Service, ServiceKey } from '@ambit/api';

import type { ServiceRecord } from '../kube/decode/service.ts';
import { serviceObjectKey } from '../translate/istio-host.ts';
import type { Binding } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import { serviceOf } from './gateway-routes.ts';
import type { EntryCollections } from './service-entries.ts';
import type { Sources } from './sources.ts';
import { only } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly noted: Noted;
  /** By `namespace/name` of a Service. */
  readonly bindings: Collection<Binding>;
  readonly entries: EntryCollections;
}

/** The services that are bound to the waypoint of a Gateway, `namespace/name`. */
export type ServicesOfWaypoint = (read: Reader, gateway: string) => readonly Service[];

interface Bound {
  readonly gateway: string;
  /** `namespace/name` of the Service. */
  readonly key: string;
}

export function servicesOfWaypoints(parts: Parts): ServicesOfWaypoint {
  const { graph, sources, cluster, noted, bindings, entries } = parts;
  const bound = noted(
    'services-of-waypoints',
    graph.derive<ServiceRecord, Bound>({
      name: 'services-of-waypoints',
      primary: sources.services,
      indexes: { gateway: ({ gateway }) => [gateway] },
      derive: (_record, key, read) => {
        const binding = read.get(bindings, key);
        return binding?.kind === 'bound' ? only(key, { gateway: binding.gateway, key }) : new Map();
      },
      equal: (left, right) => left.gateway === right.gateway,
    }),
  );
  return (read, gateway) => [
    ...read
      .find(bound, 'gateway', gateway)
      .flatMap(({ key }) => serviceOf(read, sources, cluster, key) ?? []),
    ...read.find(entries.resolved, 'gateway', gateway).flatMap(({ services }) => services),
  ];
}

/** To what a Service of the cluster is bound, by its key in the mesh. */
export function serviceBinding(
  read: Reader,
  bindings: Collection<Binding>,
  service: ServiceKey,
): Binding | undefined {
  return read.get(bindings, serviceObjectKey(service));
}
