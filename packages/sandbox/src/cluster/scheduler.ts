import type { Node, Pod } from './objects.ts';
import { isFinished, isTerminating, includesLabels, selects } from './labels.ts';
import { isMissing, keyOf, mutate, resources, splitKey, type ClusterStore } from './store.ts';
import { createWorkQueue } from './work-queue.ts';
import type { Controller, ControllerContext } from './controller.ts';

const retryMs = 1_000;

/** Binds pods to ready nodes: those that the pod allows, the emptiest first. */
export function startScheduler({ store, logger }: ControllerContext): Controller {
  // One at a time, so that each choice sees the one before.
  const queue = createWorkQueue('scheduler', logger, async () => {
    const pods = await store.list(resources.pods);
    const nodes = await store.list(resources.nodes);
    for (const pod of pods) {
      if (pod.spec.nodeName !== undefined && pod.spec.nodeName !== '') continue;
      if (isTerminating(pod)) {
        await forget(store, pod);
      } else if (!isFinished(pod) && (pod.spec.schedulingGates ?? []).length === 0) {
        const placed = await schedule(store, pod, nodes, pods);
        if (!placed) queue.addAfter('all', retryMs);
      }
    }
  });

  const stops = [
    store.observe(resources.pods, () => queue.add('all')),
    store.observe(resources.nodes, () => queue.add('all')),
  ];
  queue.add('all');
  return {
    async close() {
      for (const stop of stops) stop();
      await queue.close();
    },
  };
}

/** No kubelet will ever end a pod that has no node. */
async function forget(store: ClusterStore, pod: Pod): Promise<void> {
  const { namespace, name } = splitKey(keyOf(pod));
  try {
    await store.delete(resources.pods, namespace, name, { gracePeriodSeconds: 0 });
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Binds one pod, or says on it why not. */
async function schedule(
  store: ClusterStore,
  pod: Pod,
  nodes: readonly Node[],
  pods: Pod[],
): Promise<boolean> {
  const now = `${new Date().toISOString().slice(0, 19)}Z`;
  const choice = chooseNode(pod, nodes, pods);
  if ('refused' in choice) {
    const already = pod.status?.conditions?.find((c) => c.type === 'PodScheduled');
    if (already?.message !== choice.refused) {
      await setScheduled(store, pod, {
        type: 'PodScheduled',
        status: 'False',
        reason: 'Unschedulable',
        message: choice.refused,
        lastTransitionTime: now,
      });
    }
    return false;
  }
  const bound = await mutate(store, resources.pods, identify(pod), (object) => {
    if (object.spec.nodeName !== undefined && object.spec.nodeName !== '') return false;
    object.spec.nodeName = choice.node;
    return true;
  });
  const at = pods.indexOf(pod);
  if (bound !== undefined && at >= 0) pods[at] = bound;
  await setScheduled(store, pod, { type: 'PodScheduled', status: 'True', lastTransitionTime: now });
  return true;
}

async function setScheduled(
  store: ClusterStore,
  pod: Pod,
  condition: {
    type: string;
    status: 'True' | 'False';
    reason?: string;
    message?: string;
    lastTransitionTime: string;
  },
): Promise<void> {
  await mutate(
    store,
    resources.pods,
    identify(pod),
    (object) => {
      const others = (object.status?.conditions ?? []).filter((c) => c.type !== 'PodScheduled');
      object.status = { phase: 'Pending', ...object.status, conditions: [...others, condition] };
      return true;
    },
    'status',
  );
}

function identify(pod: Pod): { namespace: string; name: string } {
  return { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name };
}

/** The node a pod goes to, or why none will do. */
export function chooseNode(
  pod: Pod,
  nodes: readonly Node[],
  pods: readonly Pod[],
): { readonly node: string } | { readonly refused: string } {
  const reasons = new Map<string, number>();
  const fitting = nodes.filter((node) => {
    const reason = refusal(pod, node, pods);
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    return reason === undefined;
  });
  if (fitting.length === 0) {
    const detail = Array.from(reasons, ([reason, count]) => `${count} ${reason}`).join(', ');
    return { refused: `0/${nodes.length} nodes are available: ${detail || 'there are no nodes'}.` };
  }
  const others = pods.filter((other) => !isFinished(other) && !isTerminating(other));
  const score = (node: Node): readonly [number, number] => {
    const here = others.filter((other) => other.spec.nodeName === node.metadata.name);
    const owner = pod.metadata.ownerReferences?.[0]?.uid;
    const siblings = here.filter(
      (other) => owner !== undefined && other.metadata.ownerReferences?.[0]?.uid === owner,
    );
    return [siblings.length, here.length];
  };
  const [best] = fitting
    .map((node) => ({ name: node.metadata.name, score: score(node) }))
    .toSorted(
      (a, b) => a.score[0] - b.score[0] || a.score[1] - b.score[1] || a.name.localeCompare(b.name),
    );
  return { node: best?.name ?? '' };
}

function refusal(pod: Pod, node: Node, pods: readonly Pod[]): string | undefined {
  const ready = node.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
  // Pods of the node's own network are what makes its network ready.
  if (ready !== true && pod.spec.hostNetwork !== true) return 'node(s) were not ready';
  if (node.spec?.unschedulable === true) return 'node(s) were unschedulable';
  if (!includesLabels(node.metadata.labels, pod.spec.nodeSelector ?? {})) {
    return "node(s) didn't match Pod's node selector";
  }
  if (!matchesAffinity(pod, node)) return "node(s) didn't match Pod's node affinity";
  return clashes(pod, node, pods) ? "node(s) didn't match pod anti-affinity rules" : undefined;
}

function matchesAffinity(pod: Pod, node: Node): boolean {
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (required === undefined) return true;
  return required.nodeSelectorTerms.some(
    (term) =>
      (term.matchExpressions ?? []).every((e) =>
        expressionHolds(e, node.metadata.labels?.[e.key]),
      ) && (term.matchFields ?? []).every((e) => expressionHolds(e, node.metadata.name)),
  );
}

function clashes(pod: Pod, node: Node, pods: readonly Pod[]): boolean {
  const terms = pod.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const here = pods.filter(
    (other) =>
      other.spec.nodeName === node.metadata.name &&
      other.metadata.namespace === pod.metadata.namespace,
  );
  return (terms ?? []).some((term) =>
    here.some((other) => selects(term.labelSelector, other.metadata.labels)),
  );
}

function expressionHolds(
  expression: { operator: string; values?: string[] },
  value: string | undefined,
): boolean {
  const { operator, values = [] } = expression;
  if (operator === 'In') return value !== undefined && values.includes(value);
  if (operator === 'NotIn') return value === undefined || !values.includes(value);
  if (operator === 'Exists') return value !== undefined;
  return operator === 'DoesNotExist' && value === undefined;
}
