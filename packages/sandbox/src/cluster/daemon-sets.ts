import type { DaemonSet, Node, Pod } from './objects.ts';
import {
  includesLabels,
  isAvailable,
  isFinished,
  isReady,
  isTerminating,
  randomSuffix,
  resolveCount,
  shortHash,
} from './labels.ts';
import { keyOf, mutate, resources, splitKey, type ClusterStore } from './store.ts';
import {
  deletePod,
  listOwned,
  podFromTemplate,
  startController,
  type Controller,
  type ControllerContext,
} from './controller.ts';

const hashLabel = 'controller-revision-hash';

/** Keeps one pod of each DaemonSet on every node that it selects, and rolls changes node by node. */
export function startDaemonSets(context: ControllerContext): Controller {
  const { store } = context;
  const controller = startController(
    context,
    resources.daemonSets,
    [resources.pods],
    async (key, queue) => {
      const { namespace, name } = splitKey(key);
      const set = await store.get(resources.daemonSets, namespace, name);
      if (set === undefined || isTerminating(set)) return;
      const nodes = (await store.list(resources.nodes)).filter((node) => wants(set, node));
      const pods = await listOwned(store, resources.pods, set);
      const hash = shortHash(set.spec.template);
      const byNode = new Map(nodes.map((node) => [node.metadata.name, [] as Pod[]]));
      for (const pod of pods) {
        if (isFinished(pod) && !isTerminating(pod)) await deletePod(store, pod);
        else if (byNode.has(nodeOf(pod))) byNode.get(nodeOf(pod))?.push(pod);
        else if (!isTerminating(pod)) await deletePod(store, pod);
      }
      // The node's next pod waits for the last one to be gone: both would want the same host paths and ports.
      for (const [node, here] of byNode) {
        if (here.length === 0) {
          const podName = `${set.metadata.name.slice(0, 57)}-${randomSuffix()}`;
          const labels = { [hashLabel]: hash };
          await store.create(
            resources.pods,
            podFromTemplate(set, set.spec.template, { name: podName, labels, nodeName: node }),
          );
        }
        for (const surplus of here.filter((pod) => !isTerminating(pod)).slice(1))
          await deletePod(store, surplus);
      }
      await roll(store, set, byNode, hash);
      await writeStatus(store, set, byNode, hash);
      if ((set.spec.minReadySeconds ?? 0) > 0) queue.addAfter(key, 1_000);
    },
  );

  const stop = store.observe(resources.nodes, ({ kind }) => {
    if (kind === 'MODIFIED') return;
    void store
      .list(resources.daemonSets)
      .then((sets) => sets.forEach((set) => controller.queue.add(keyOf(set))));
  });
  return {
    async close() {
      stop();
      await controller.close();
    },
  };
}

async function roll(
  store: ClusterStore,
  set: DaemonSet,
  byNode: ReadonlyMap<string, Pod[]>,
  hash: string,
): Promise<void> {
  if (set.spec.updateStrategy?.type === 'OnDelete') return;
  const { maxUnavailable = 1 } = set.spec.updateStrategy?.rollingUpdate ?? {};
  const allowed = Math.max(1, resolveCount(maxUnavailable, byNode.size, true));
  const minReady = set.spec.minReadySeconds ?? 0;
  let unavailable = 0;
  const old: Pod[] = [];
  for (const here of byNode.values()) {
    const [pod] = here.filter((p) => !isTerminating(p));
    const available = pod !== undefined && isAvailable(pod, minReady, Date.now());
    if (!available) unavailable += 1;
    if (pod === undefined || pod.metadata.labels?.[hashLabel] === hash) continue;
    if (available) old.push(pod);
    // What does not work may be replaced at once.
    else await deletePod(store, pod);
  }
  for (const pod of old.slice(0, Math.max(0, allowed - unavailable))) await deletePod(store, pod);
}

async function writeStatus(
  store: ClusterStore,
  set: DaemonSet,
  byNode: ReadonlyMap<string, Pod[]>,
  hash: string,
): Promise<void> {
  const { namespace = '', name, uid = '' } = set.metadata;
  const live = Array.from(byNode.values(), (here) =>
    here.find((pod) => !isTerminating(pod)),
  ).filter((pod) => pod !== undefined);
  const minReady = set.spec.minReadySeconds ?? 0;
  const available = live.filter((pod) => isAvailable(pod, minReady, Date.now())).length;
  const status: NonNullable<DaemonSet['status']> = {
    ...(set.metadata.generation === undefined
      ? {}
      : { observedGeneration: set.metadata.generation }),
    desiredNumberScheduled: byNode.size,
    currentNumberScheduled: live.length,
    updatedNumberScheduled: live.filter((pod) => pod.metadata.labels?.[hashLabel] === hash).length,
    numberReady: live.filter(isReady).length,
    numberAvailable: available,
    ...(byNode.size > available ? { numberUnavailable: byNode.size - available } : {}),
    numberMisscheduled: 0,
  };
  await mutate(
    store,
    resources.daemonSets,
    { namespace, name, uid },
    (object) => {
      if (JSON.stringify(object.status) === JSON.stringify(status)) return false;
      object.status = status;
      return true;
    },
    'status',
  );
}

function wants(set: DaemonSet, node: Node): boolean {
  return includesLabels(node.metadata.labels, set.spec.template.spec.nodeSelector ?? {});
}

function nodeOf(pod: Pod): string {
  if (pod.spec.nodeName !== undefined && pod.spec.nodeName !== '') return pod.spec.nodeName;
  const terms =
    pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
      ?.nodeSelectorTerms;
  return terms?.[0]?.matchFields?.[0]?.values?.[0] ?? '';
}
