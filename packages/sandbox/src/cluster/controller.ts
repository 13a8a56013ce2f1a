import type { KubeObject, Pod, PodTemplate } from './objects.ts';
import { controllerOf, ownedBy } from './labels.ts';
import { isMissing, keyOf, resources, type ClusterStore, type ResourceType } from './store.ts';
import { createWorkQueue, type ClusterLogger, type WorkQueue } from './work-queue.ts';

export interface ControllerContext {
  readonly store: ClusterStore;
  readonly logger: ClusterLogger;
}

export interface Controller {
  close(): Promise<void>;
}

/** Runs `reconcile` for every object of a type when it changes, or when an object changes that it controls. */
export function startController<T extends KubeObject>(
  context: ControllerContext,
  type: ResourceType<T>,
  owned: readonly ResourceType<KubeObject>[],
  reconcile: (key: string, queue: WorkQueue) => Promise<void>,
): Controller & { readonly queue: WorkQueue } {
  const { store, logger } = context;
  const queue: WorkQueue = createWorkQueue(type.resource, logger, (key) => reconcile(key, queue));
  const stops = [
    store.observe(type, ({ object }) => queue.add(keyOf(object))),
    ...owned.map((ownedType) =>
      store.observe(ownedType, ({ object }) => {
        const owner = controllerOf(object);
        if (owner?.kind === type.kind)
          queue.add(`${object.metadata.namespace ?? ''}/${owner.name}`);
      }),
    ),
  ];
  return {
    queue,
    async close() {
      for (const stop of stops) stop();
      await queue.close();
    },
  };
}

/** The objects that `owner` controls. */
export async function listOwned<T extends KubeObject>(
  store: ClusterStore,
  type: ResourceType<T>,
  owner: KubeObject,
): Promise<T[]> {
  const all = await store.list(type, { namespace: owner.metadata.namespace ?? '' });
  return all.filter((object) => controllerOf(object)?.uid === owner.metadata.uid);
}

/** A pod made from a template, controlled by `owner`. */
export function podFromTemplate(
  owner: KubeObject,
  template: PodTemplate,
  overrides: { name: string; labels?: Record<string, string>; nodeName?: string },
): Pod {
  const spec = structuredClone(template.spec);
  if (overrides.nodeName !== undefined) {
    spec.affinity = {
      ...spec.affinity,
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [
            {
              matchFields: [{ key: 'metadata.name', operator: 'In', values: [overrides.nodeName] }],
            },
          ],
        },
      },
    };
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: overrides.name,
      namespace: owner.metadata.namespace ?? 'default',
      labels: { ...template.metadata?.labels, ...overrides.labels },
      ...(template.metadata?.annotations === undefined
        ? {}
        : { annotations: { ...template.metadata.annotations } }),
      ownerReferences: [ownedBy(owner)],
    },
    spec,
  };
}

/** Deletes a pod, in its own time; one that is gone already is fine. */
export async function deletePod(store: ClusterStore, pod: Pod): Promise<void> {
  const { namespace = '', name, uid } = pod.metadata;
  try {
    await store.delete(resources.pods, namespace, name, uid === undefined ? {} : { uid });
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Pods in the order in which they may go: unassigned, not ready, youngest first. */
export function byExpendability(isReady: (pod: Pod) => boolean): (a: Pod, b: Pod) => number {
  return (a, b) =>
    Number(a.spec.nodeName !== undefined) - Number(b.spec.nodeName !== undefined) ||
    Number(isReady(a)) - Number(isReady(b)) ||
    (b.metadata.creationTimestamp ?? '').localeCompare(a.metadata.creationTimestamp ?? '') ||
    a.metadata.name.localeCompare(b.metadata.name);
}
