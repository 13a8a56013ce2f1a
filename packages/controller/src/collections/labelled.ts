import { isDeepStrictEqual } from 'node:util';
import { useWaypointLabel } from '@ambit/api';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import type { PodRecord } from '../kube/decode/pod.ts';
import type { Binding, BindingWorld } from '../translate/waypoint.ts';
import { bindingOf } from '../translate/waypoint.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import type { Sources } from './sources.ts';
import { only } from './version.ts';

export interface LabelledCollections {
  /** By `namespace/name` of a Pod that is labelled itself, or was. */
  readonly podBindings: Collection<Binding>;
  /** By the name of a Namespace that is labelled. */
  readonly namespaceBindings: Collection<Binding>;
}

interface Parts {
  readonly graph: Graph;
  readonly sources: Pick<Sources, 'pods' | 'namespaces'>;
  readonly noted: Noted;
}

/** What Pods and Namespaces that are labelled themselves are told; what traffic does is the workloads' and Services'. */
export function labelledStages(
  { graph, sources, noted }: Parts,
  worldOf: (read: Reader, namespace: string) => BindingWorld,
): LabelledCollections {
  const podBindings = noted(
    'pod-bindings',
    graph.derive<PodRecord, Binding>({
      name: 'pod-bindings',
      primary: sources.pods,
      derive: ({ meta, tellsWaypoint }, key, read) => {
        if (meta.labels.has(useWaypointLabel)) {
          return only(key, bindingOf({ meta, what: 'workload' }, worldOf(read, meta.namespace)));
        }
        return only<Binding>(key, tellsWaypoint ? { kind: 'none' } : undefined);
      },
      equal: isDeepStrictEqual,
    }),
  );
  const namespaceBindings = noted(
    'namespace-bindings',
    graph.derive<NamespaceRecord, Binding>({
      name: 'namespace-bindings',
      primary: sources.namespaces,
      derive: ({ meta }, key, read) => {
        if (!meta.labels.has(useWaypointLabel)) return only<Binding>(key, undefined);
        const inside = { ...meta, namespace: meta.name };
        const world = worldOf(read, meta.name);
        const ofServices = bindingOf({ meta: inside, what: 'service' }, world);
        // A waypoint for workloads alone has nothing to say of services.
        return only(
          key,
          ofServices.kind === 'none'
            ? bindingOf({ meta: inside, what: 'workload' }, world)
            : ofServices,
        );
      },
      equal: isDeepStrictEqual,
    }),
  );
  return { podBindings, namespaceBindings };
}
