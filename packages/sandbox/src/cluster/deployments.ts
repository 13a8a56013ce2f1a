import type { Condition, Deployment, PodTemplate, ReplicaSet, ReplicaStatus } from './objects.ts';
import { isTerminating, ownedBy, resolveCount, shortHash } from './labels.ts';
import { isMissing, mutate, resources, splitKey, type ClusterStore } from './store.ts';
import {
  listOwned,
  startController,
  type Controller,
  type ControllerContext,
} from './controller.ts';

const hashLabel = 'pod-template-hash';
const revisionAnnotation = 'deployment.kubernetes.io/revision';
const copiedNever = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  revisionAnnotation,
]);

/** Rolls Deployments out: a ReplicaSet per template, surge and unavailability within bounds, history kept. */
export function startDeployments(context: ControllerContext): Controller {
  const { store } = context;

  return startController(
    context,
    resources.deployments,
    [resources.replicaSets],
    async (key, queue) => {
      const { namespace, name } = splitKey(key);
      const deployment = await store.get(resources.deployments, namespace, name);
      if (deployment === undefined || isTerminating(deployment)) return;
      const sets = await listOwned(store, resources.replicaSets, deployment);
      let current = sets.find((set) => sameTemplate(set, deployment));
      if (deployment.spec.paused !== true) {
        current = await ensureCurrent(store, deployment, sets, current);
        await roll(
          store,
          deployment,
          current,
          sets.filter((set) => set.metadata.uid !== current?.metadata.uid),
        );
      } else if (current !== undefined && sets.length === 1) {
        await scaleTo(store, current, deployment.spec.replicas ?? 1);
      }
      await writeStatus(store, deployment, current?.metadata.uid);
      await cleanUp(store, deployment, current?.metadata.uid);
      const after = await store.get(resources.deployments, namespace, name);
      if (after !== undefined && !isComplete(after)) queue.addAfter(key, 500);
    },
  );
}

async function ensureCurrent(
  store: ClusterStore,
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  found: ReplicaSet | undefined,
): Promise<ReplicaSet> {
  const revisions = sets.map(revisionOf);
  const newest = Math.max(0, ...revisions);
  const revision =
    found === undefined || revisionOf(found) < newest ? newest + 1 : revisionOf(found);
  const annotations = Object.fromEntries(
    Object.entries(deployment.metadata.annotations ?? {}).filter(([key]) => !copiedNever.has(key)),
  );
  annotations[revisionAnnotation] = String(revision);
  let current = found;
  if (current === undefined) {
    current = await store.create(resources.replicaSets, newSet(deployment, annotations));
  } else if (revisionOf(current) !== revision) {
    const key = { namespace: current.metadata.namespace ?? '', name: current.metadata.name };
    current =
      (await mutate(store, resources.replicaSets, key, (set) => {
        set.metadata.annotations = { ...set.metadata.annotations, ...annotations };
        return true;
      })) ?? current;
  }
  await mutate(store, resources.deployments, keyFor(deployment), (object) => {
    if (object.metadata.annotations?.[revisionAnnotation] === String(revision)) return false;
    object.metadata.annotations = {
      ...object.metadata.annotations,
      [revisionAnnotation]: String(revision),
    };
    return true;
  });
  return current;
}

async function roll(
  store: ClusterStore,
  deployment: Deployment,
  current: ReplicaSet,
  old: readonly ReplicaSet[],
): Promise<void> {
  const wanted = deployment.spec.replicas ?? 1;
  const oldTotal = sum(old.map(sizeOf));
  if (deployment.spec.strategy?.type === 'Recreate') {
    for (const set of old) await scaleTo(store, set, 0);
    if (sum(old.map((set) => set.status?.replicas ?? 0)) === 0)
      await scaleTo(store, current, wanted);
    return;
  }
  const { surge, unavailable } = bounds(deployment);
  const currentSize = sizeOf(current);
  const room = wanted + surge - currentSize - oldTotal;
  if (currentSize > wanted) await scaleTo(store, current, wanted);
  else if (currentSize < wanted && room > 0) {
    await scaleTo(store, current, Math.min(wanted, currentSize + room));
  }
  if (oldTotal === 0 || (await removeBroken(store, old)) > 0) return;
  let spare = sum([current, ...old].map(availableOf)) - (wanted - unavailable);
  for (const set of old.toSorted((a, b) => revisionOf(a) - revisionOf(b))) {
    const down = Math.min(sizeOf(set), Math.max(0, spare));
    if (down > 0) await scaleTo(store, set, sizeOf(set) - down);
    spare -= down;
  }
}

/** What never became available can go without costing availability. */
async function removeBroken(store: ClusterStore, old: readonly ReplicaSet[]): Promise<number> {
  let removed = 0;
  for (const set of old) {
    const useless = Math.max(0, sizeOf(set) - availableOf(set));
    if (useless === 0 || set.status?.observedGeneration !== set.metadata.generation) continue;
    await scaleTo(store, set, sizeOf(set) - useless);
    removed += useless;
  }
  return removed;
}

function bounds(deployment: Deployment): { surge: number; unavailable: number } {
  const wanted = deployment.spec.replicas ?? 1;
  const { maxSurge, maxUnavailable } = deployment.spec.strategy?.rollingUpdate ?? {};
  const surge = resolveCount(maxSurge, wanted, true);
  const unavailable = resolveCount(maxUnavailable, wanted, false);
  // With neither, nothing could ever move.
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

function sizeOf(set: ReplicaSet): number {
  return set.spec.replicas ?? 0;
}

function availableOf(set: ReplicaSet): number {
  return set.status?.availableReplicas ?? 0;
}

async function scaleTo(store: ClusterStore, set: ReplicaSet, replicas: number): Promise<void> {
  const key = { namespace: set.metadata.namespace ?? '', name: set.metadata.name };
  await mutate(store, resources.replicaSets, key, (object) => {
    if (object.spec.replicas === replicas) return false;
    object.spec.replicas = replicas;
    return true;
  });
}

async function writeStatus(
  store: ClusterStore,
  deployment: Deployment,
  currentUid: string | undefined,
): Promise<void> {
  const sets = await listOwned(store, resources.replicaSets, deployment);
  const current = sets.find((set) => set.metadata.uid === currentUid);
  await mutate(
    store,
    resources.deployments,
    keyFor(deployment),
    (object) => {
      const next = statusOf(object, sets, current, deployment.metadata.generation ?? 1);
      if (JSON.stringify(withoutTimes(next)) === JSON.stringify(withoutTimes(object.status)))
        return false;
      object.status = next;
      return true;
    },
    'status',
  );
}

async function cleanUp(
  store: ClusterStore,
  deployment: Deployment,
  currentUid: string | undefined,
): Promise<void> {
  const idle = (await listOwned(store, resources.replicaSets, deployment))
    .filter(
      (set) =>
        set.metadata.uid !== currentUid &&
        (set.spec.replicas ?? 0) === 0 &&
        (set.status?.replicas ?? 0) === 0,
    )
    .toSorted((a, b) => revisionOf(b) - revisionOf(a));
  for (const set of idle.slice(deployment.spec.revisionHistoryLimit ?? 10)) {
    try {
      await store.delete(resources.replicaSets, set.metadata.namespace ?? '', set.metadata.name);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
}

function keyFor(deployment: Deployment): { namespace: string; name: string; uid: string } {
  const { namespace = '', name, uid = '' } = deployment.metadata;
  return { namespace, name, uid };
}

function newSet(deployment: Deployment, annotations: Record<string, string>): ReplicaSet {
  const { template, selector, minReadySeconds } = deployment.spec;
  const hash = shortHash(canonical(template));
  const labels = { ...template.metadata?.labels, [hashLabel]: hash };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${deployment.metadata.name}-${hash}`,
      namespace: deployment.metadata.namespace ?? 'default',
      labels,
      annotations,
      ownerReferences: [ownedBy(deployment)],
    },
    spec: {
      replicas: 0,
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [hashLabel]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } },
      ...(minReadySeconds === undefined ? {} : { minReadySeconds }),
    },
  };
}

/** A value with its fields in one order, so that equal templates have equal hashes. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value)
    .filter(([, v]) => v !== undefined && v !== null)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, v]) => [key, canonical(v)]);
}

function sameTemplate(set: ReplicaSet, deployment: Deployment): boolean {
  const bare = (template: PodTemplate): unknown => {
    const labels = Object.entries(template.metadata?.labels ?? {}).filter(
      ([key]) => key !== hashLabel,
    );

    const { annotations = {} } = template.metadata ?? {};
    return canonical({ spec: template.spec, labels: Object.fromEntries(labels), annotations });
  };
  return JSON.stringify(bare(set.spec.template)) === JSON.stringify(bare(deployment.spec.template));
}

function revisionOf(set: ReplicaSet): number {
  return Number(set.metadata.annotations?.[revisionAnnotation] ?? 0);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function isComplete(deployment: Deployment): boolean {
  const wanted = deployment.spec.replicas ?? 1;
  const { updatedReplicas = 0, replicas = 0, availableReplicas = 0 } = deployment.status ?? {};
  return updatedReplicas === wanted && replicas === wanted && availableReplicas === wanted;
}

function withoutTimes(status: ReplicaStatus | undefined): unknown {
  return {
    ...status,
    conditions: status?.conditions?.map(({ type, status: state, reason, message }) => ({
      type,
      state,
      reason,
      message,
    })),
  };
}

interface Counts {
  readonly wanted: number;
  readonly replicas: number;
  readonly updated: number;
  readonly ready: number;
  readonly available: number;
}

function countsOf(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  current: ReplicaSet | undefined,
): Counts {
  return {
    wanted: deployment.spec.replicas ?? 1,
    replicas: sum(sets.map((set) => set.status?.replicas ?? 0)),
    updated: current?.status?.replicas ?? 0,
    ready: sum(sets.map((set) => set.status?.readyReplicas ?? 0)),
    available: sum(sets.map(availableOf)),
  };
}

function statusOf(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  current: ReplicaSet | undefined,
  observedGeneration: number,
): ReplicaStatus {
  const now = `${new Date().toISOString().slice(0, 19)}Z`;
  const counts = countsOf(deployment, sets, current);
  const { wanted, replicas, updated, ready, available } = counts;
  const before = deployment.status?.conditions ?? [];
  const lastUpdate = lastProgress(deployment, counts, now);
  const conditions = [
    availability(available >= wanted - bounds(deployment).unavailable),
    progressOf(deployment, counts, { name: current?.metadata.name ?? '', lastUpdate, now }),
  ];
  return {
    observedGeneration,
    replicas,
    updatedReplicas: updated,
    readyReplicas: ready,
    availableReplicas: available,
    unavailableReplicas: Math.max(0, Math.max(wanted, replicas) - available),
    conditions: conditions.map((condition) => {
      const old = before.find((c) => c.type === condition.type);
      const since = old?.status === condition.status ? old.lastTransitionTime : undefined;
      const lastUpdateTime = condition.type === 'Progressing' ? lastUpdate : now;
      return { ...condition, lastUpdateTime, lastTransitionTime: since ?? now };
    }),
  };
}

function lastProgress(deployment: Deployment, { updated, available }: Counts, now: string): string {
  const { status } = deployment;
  if (status?.updatedReplicas !== updated || status.availableReplicas !== available) return now;
  return status.conditions?.find((c) => c.type === 'Progressing')?.lastUpdateTime ?? now;
}

function availability(enough: boolean): Condition {
  return enough
    ? {
        type: 'Available',
        status: 'True',
        reason: 'MinimumReplicasAvailable',
        message: 'Deployment has minimum availability.',
      }
    : {
        type: 'Available',
        status: 'False',
        reason: 'MinimumReplicasUnavailable',
        message: 'Deployment does not have minimum availability.',
      };
}

function progressOf(
  deployment: Deployment,
  { wanted, replicas, updated, available }: Counts,
  at: { readonly name: string; readonly lastUpdate: string; readonly now: string },
): Condition {
  const condition = (status: Condition['status'], reason: string, message: string): Condition => ({
    type: 'Progressing',
    status,
    reason,
    message,
  });
  if (deployment.spec.paused === true) {
    return condition('Unknown', 'DeploymentPaused', 'Deployment is paused');
  }
  const set = `ReplicaSet "${at.name}"`;
  if (updated === wanted && replicas === wanted && available === wanted) {
    return condition('True', 'NewReplicaSetAvailable', `${set} has successfully progressed.`);
  }
  const deadlineMs = (deployment.spec.progressDeadlineSeconds ?? 600) * 1000;
  if (Date.parse(at.now) - Date.parse(at.lastUpdate) > deadlineMs) {
    return condition('False', 'ProgressDeadlineExceeded', `${set} has timed out progressing.`);
  }
  return condition('True', 'ReplicaSetUpdated', `${set} is progressing.`);
}
