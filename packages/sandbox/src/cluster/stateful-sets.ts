import type { Pod, ReplicaStatus, StatefulSet } from './objects.ts';
import { isFinished, isReady, isTerminating, shortHash } from './labels.ts';
import { mutate, resources, splitKey, type ClusterStore } from './store.ts';
import {
  deletePod,
  listOwned,
  podFromTemplate,
  startController,
  type Controller,
  type ControllerContext,
} from './controller.ts';

const hashLabel = 'controller-revision-hash';

/** Keeps the numbered pods of StatefulSets, one after the other; volumes that claim storage are not there. */
export function startStatefulSets(context: ControllerContext): Controller {
  const { store } = context;
  return startController(context, resources.statefulSets, [resources.pods], async (key) => {
    const { namespace, name } = splitKey(key);
    const set = await store.get(resources.statefulSets, namespace, name);
    if (set === undefined || isTerminating(set)) return;
    const revision = `${name}-${shortHash(set.spec.template)}`;
    const pods = new Map(
      (await listOwned(store, resources.pods, set)).map((pod) => [pod.metadata.name, pod]),
    );
    await step(store, set, pods, revision);
    const live = Array.from(pods.values()).filter((pod) => !isTerminating(pod));
    const ready = live.filter(isReady).length;
    const updated = live.filter((pod) => pod.metadata.labels?.[hashLabel] === revision).length;
    const status: StatefulSet['status'] & ReplicaStatus = {
      ...(set.metadata.generation === undefined
        ? {}
        : { observedGeneration: set.metadata.generation }),
      replicas: live.length,
      readyReplicas: ready,
      availableReplicas: ready,
      currentReplicas: updated,
      updatedReplicas: updated,
      currentRevision:
        updated === live.length ? revision : (set.status?.currentRevision ?? revision),
      updateRevision: revision,
    };
    await mutate(
      store,
      resources.statefulSets,
      { namespace, name, uid: set.metadata.uid ?? '' },
      (object) => {
        if (JSON.stringify(object.status) === JSON.stringify(status)) return false;
        object.status = status;
        return true;
      },
      'status',
    );
  });
}

/** Makes the first missing pod, or removes the last that is too many or old; one change at a time. */
async function step(
  store: ClusterStore,
  set: StatefulSet,
  pods: ReadonlyMap<string, Pod>,
  revision: string,
): Promise<void> {
  const wanted = set.spec.replicas ?? 1;
  const parallel = set.spec.podManagementPolicy === 'Parallel';
  for (let ordinal = 0; ordinal < wanted; ordinal += 1) {
    const name = `${set.metadata.name}-${ordinal}`;
    const pod = pods.get(name);
    if (pod === undefined) {
      await create(store, set, name, ordinal, revision);
      if (!parallel) return;
    } else if (isFinished(pod) && !isTerminating(pod)) {
      await deletePod(store, pod);
      return;
    } else if (!parallel && !isSettled(pod)) {
      // An old revision that never became ready would hold up its own repair.
      const stuck = pod.metadata.labels?.[hashLabel] !== revision && !isTerminating(pod);
      if (stuck) await deletePod(store, pod);
      return;
    }
  }
  const next = nextToRemove(pods, wanted, revision);
  if (next !== undefined && !isTerminating(next)) await deletePod(store, next);
}

function isSettled(pod: Pod): boolean {
  return isReady(pod) && !isTerminating(pod);
}

/** The last pod that is one too many, or else the last of an old revision. */
function nextToRemove(
  pods: ReadonlyMap<string, Pod>,
  wanted: number,
  revision: string,
): Pod | undefined {
  const last = Array.from(pods.values()).toSorted((a, b) => ordinalOf(b) - ordinalOf(a));
  const surplus = last.find((pod) => ordinalOf(pod) >= wanted);
  return surplus ?? last.find((pod) => pod.metadata.labels?.[hashLabel] !== revision);
}

async function create(
  store: ClusterStore,
  set: StatefulSet,
  name: string,
  ordinal: number,
  revision: string,
): Promise<void> {
  const labels = {
    [hashLabel]: revision,
    'statefulset.kubernetes.io/pod-name': name,
    'apps.kubernetes.io/pod-index': String(ordinal),
  };
  const pod = podFromTemplate(set, set.spec.template, { name, labels });
  pod.spec.hostname = name;
  if (set.spec.serviceName !== undefined) pod.spec.subdomain = set.spec.serviceName;
  await store.create(resources.pods, pod);
}

function ordinalOf(pod: Pod): number {
  return Number(/-(\d+)$/.exec(pod.metadata.name)?.[1] ?? 0);
}
