import type { Condition, Pod, ReplicaSet, ReplicaStatus } from './objects.ts';
import { isAvailable, isFinished, isReady, isTerminating, randomSuffix } from './labels.ts';
import { mutate, resources, splitKey } from './store.ts';
import {
  byExpendability,
  deletePod,
  listOwned,
  podFromTemplate,
  startController,
  type Controller,
  type ControllerContext,
} from './controller.ts';

/** Keeps as many pods as each ReplicaSet asks for. */
export function startReplicaSets(context: ControllerContext): Controller {
  const { store } = context;
  return startController(context, resources.replicaSets, [resources.pods], async (key, queue) => {
    const { namespace, name } = splitKey(key);
    const set = await store.get(resources.replicaSets, namespace, name);
    if (set === undefined) return;
    const pods = (await listOwned(store, resources.pods, set)).filter((pod) => !isFinished(pod));
    const active = pods.filter((pod) => !isTerminating(pod));
    let problem: string | undefined;
    if (!isTerminating(set)) problem = await scale(set, active);
    const status = statusOf(set, active, problem);
    await mutate(
      store,
      resources.replicaSets,
      { namespace, name, uid: set.metadata.uid ?? '' },
      (object) => {
        if (JSON.stringify(object.status) === JSON.stringify(status)) return false;
        object.status = status;
        return true;
      },
      'status',
    );
    const minReady = set.spec.minReadySeconds ?? 0;
    if ((status.readyReplicas ?? 0) > (status.availableReplicas ?? 0))
      queue.addAfter(key, Math.max(200, minReady * 250));
    if (problem !== undefined) throw new Error(problem);
  });

  async function scale(set: ReplicaSet, active: readonly Pod[]): Promise<string | undefined> {
    const wanted = set.spec.replicas ?? 1;
    try {
      for (let missing = wanted - active.length; missing > 0; missing -= 1) {
        const name = `${set.metadata.name.slice(0, 57)}-${randomSuffix()}`;
        await store.create(resources.pods, podFromTemplate(set, set.spec.template, { name }));
      }
      const surplus = active
        .toSorted(byExpendability(isReady))
        .slice(0, Math.max(0, active.length - wanted));
      for (const pod of surplus) await deletePod(store, pod);
      return undefined;
    } catch (error) {
      return error instanceof Object && 'message' in error ? String(error.message) : String(error);
    }
  }
}

function statusOf(
  set: ReplicaSet,
  active: readonly Pod[],
  problem: string | undefined,
): ReplicaStatus {
  const minReady = set.spec.minReadySeconds ?? 0;
  const now = Date.now();
  const ready = active.filter(isReady).length;
  const available = active.filter((pod) => isAvailable(pod, minReady, now)).length;
  const before = set.status?.conditions?.find((c) => c.type === 'ReplicaFailure');
  const failure: Condition = {
    type: 'ReplicaFailure',
    status: 'True',
    reason: 'FailedCreate',
    message: problem ?? '',
    lastTransitionTime:
      before?.lastTransitionTime ?? `${new Date(now).toISOString().slice(0, 19)}Z`,
  };
  return {
    replicas: active.length,
    fullyLabeledReplicas: active.length,
    ...(ready > 0 ? { readyReplicas: ready } : {}),
    ...(available > 0 ? { availableReplicas: available } : {}),
    ...(set.metadata.generation === undefined
      ? {}
      : { observedGeneration: set.metadata.generation }),
    ...(problem === undefined ? {} : { conditions: [failure] }),
  };
}
