import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pod } from '../cluster/objects.ts';
import { isFinished, isTerminating } from '../cluster/labels.ts';
import { isMissing, keyOf, resources, splitKey } from '../cluster/store.ts';
import { createWorkQueue, describe } from '../cluster/work-queue.ts';
import type { NodeContext } from './node-context.ts';
import { startPodWorker, type PodWorker } from './pod.ts';

export interface Kubelet {
  readonly node: NodeContext;
  worker(namespace: string, name: string): PodWorker | undefined;
  /** Stops every pod of the node and everything it holds; the API keeps its objects. */
  close(): Promise<void>;
}

const refreshEveryMs = 30_000;
const defaultGraceSeconds = 30;

/** Runs the pods that the API binds to one node. The Node object itself is kept by `startNodeStatus`. */
export async function startKubelet(node: NodeContext): Promise<Kubelet> {
  await mkdir(join(node.root, 'var/run/netns'), { recursive: true });
  const workers = new Map<string, PodWorker>();

  const queue = createWorkQueue('kubelet', node.logger, async (key) => {
    const { namespace, name } = splitKey(key);
    const pod = await node.store.get(resources.pods, namespace, name);
    const worker = workers.get(key);
    const gone = pod === undefined || pod.spec.nodeName !== node.name;
    if (worker !== undefined && (gone || worker.uid !== pod.metadata.uid)) {
      await worker.stop(gone ? 0 : 1000);
      workers.delete(key);
    }
    if (gone) return;
    if (isTerminating(pod)) {
      await endPod(pod, workers.get(key));
      workers.delete(key);
      return;
    }
    const running = workers.get(key);
    if (running !== undefined) running.update(pod);
    else if (!isFinished(pod)) workers.set(key, startPodWorker(node, pod));
  });

  async function endPod(pod: Pod, worker: PodWorker | undefined): Promise<void> {
    const { namespace = '', name, uid } = pod.metadata;
    const graceSeconds =
      pod.metadata.deletionGracePeriodSeconds ??
      pod.spec.terminationGracePeriodSeconds ??
      defaultGraceSeconds;
    if (worker !== undefined) {
      node.events.record(pod, { type: 'Normal', reason: 'Killing', message: 'Stopping the pod' });
      await worker.stop(graceSeconds * 1000);
    }
    try {
      await node.store.delete(resources.pods, namespace, name, {
        gracePeriodSeconds: 0,
        ...(uid === undefined ? {} : { uid }),
      });
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  async function refresh(namespace?: string): Promise<void> {
    for (const worker of workers.values()) {
      if (namespace !== undefined && worker.pod.metadata.namespace !== namespace) continue;
      await worker
        .refreshVolumes()
        .catch((error: unknown) =>
          node.logger.debug(
            { pod: keyOf(worker.pod), error: describe(error) },
            'volumes were not refreshed',
          ),
        );
    }
  }

  const stops = [
    node.store.observe(resources.pods, ({ object }) => {
      if (object.spec.nodeName === node.name || workers.has(keyOf(object)))
        queue.add(keyOf(object));
    }),
    node.store.observe(
      resources.configMaps,
      ({ object }) => void refresh(object.metadata.namespace),
    ),
    node.store.observe(resources.secrets, ({ object }) => void refresh(object.metadata.namespace)),
  ];
  const timer = setInterval(() => void refresh(), refreshEveryMs);
  for (const pod of await node.store.list(resources.pods)) {
    if (pod.spec.nodeName === node.name) queue.add(keyOf(pod));
  }

  return {
    node,
    worker: (namespace, name) => workers.get(`${namespace}/${name}`),
    async close() {
      clearInterval(timer);
      for (const stop of stops) stop();
      const closing = Promise.allSettled(Array.from(workers.values(), (worker) => worker.kill()));
      await Promise.all([queue.close(), closing]);
    },
  };
}
