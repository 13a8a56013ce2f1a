import type { Condition, Deployment, PodTemplate, ReplicaSet, ReplicaStatus } from './objects.ts';
import { isTerminating, ownedBy, resolveCount, shortHash } from './labels.ts';
import { isMissing, mutate, resources, splitKey } from './store.ts';
import {
  listOwned,
  startController,
  type Controller,
  type ControllerContext,
} from './controller.ts';
import { describe } from './work-queue.ts';

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
        current = await ensureCurrent(deployment, sets, current);
        await roll(
          deployment,
          current,
          sets.filter((set) => set.metadata.uid !== current?.metadata.uid),
        );
      } else if (current !== undefined && sets.length === 1) {
        await scaleTo(current, deployment.spec.replicas ?? 1);
      }
      await writeStatus(deployment, current?.metadata.uid);
      await cleanUp(deployment, current?.metadata.uid);
      const after = await store.get(resources.deployments, namespace, name);
      if (after !== undefined && !isComplete(after)) queue.addAfter(key, 500);
    },
  );

  async function ensureCurrent(
    deployment: Deployment,
    sets: readonly ReplicaSet[],
    found: ReplicaSet | undefined,
  ): Promise<ReplicaSet> {
    const revisions = sets.map(revisionOf);
    const newest = Math.max(0, ...revisions);
    const revision =
      found === undefined || revisionOf(found) < newest ? newest + 1 : revisionOf(found);
    const annotations = Object.fromEntries(
      Object.entries(deployment.metadata.annotations ?? {}).filter(
        ([key]) => !copiedNever.has(key),
      ),
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
    deployment: Deployment,
    current: ReplicaSet,
    old: readonly ReplicaSet[],
  ): Promise<void> {
    const wanted = deployment.spec.replicas ?? 1;
    const oldTotal = sum(old.map((set) => set.spec.replicas ?? 0));
    if (deployment.spec.strategy?.type === 'Recreate') {
      for (const set of old) await scaleTo(set, 0);
      if (sum(old.map((set) => set.status?.replicas ?? 0)) === 0) await scaleTo(current, wanted);
      return;
    }
    const { maxSurge, maxUnavailable } = deployment.spec.strategy?.rollingUpdate ?? {};
    const surge = resolveCount(maxSurge, wanted, true);
    const declaredUnavailable = resolveCount(maxUnavailable, wanted, false);
    const unavailable = surge === 0 && declaredUnavailable === 0 ? 1 : declaredUnavailable;
    const currentSize = current.spec.replicas ?? 0;
    if (currentSize > wanted) await scaleTo(current, wanted);
    else if (currentSize < wanted) {
      const room = wanted + surge - currentSize - oldTotal;
      if (room > 0) await scaleTo(current, Math.min(wanted, currentSize + room));
    }
    if (oldTotal === 0) return;
    const available = sum([current, ...old].map((set) => set.status?.availableReplicas ?? 0));
    const least = wanted - unavailable;
    // What never became available can go without costing availability.
    let broken = 0;
    for (const set of old) {
      const size = set.spec.replicas ?? 0;
      const useless = Math.max(0, size - (set.status?.availableReplicas ?? 0));
      if (useless > 0 && set.status?.observedGeneration === set.metadata.generation) {
        await scaleTo(set, size - useless);
        broken += useless;
      }
    }
    if (broken > 0) return;
    let spare = available - least;
    for (const set of old.toSorted((a, b) => revisionOf(a) - revisionOf(b))) {
      const size = set.spec.replicas ?? 0;
      const down = Math.min(size, Math.max(0, spare));
      if (down > 0) await scaleTo(set, size - down);
      spare -= down;
    }
  }

  async function scaleTo(set: ReplicaSet, replicas: number): Promise<void> {
    const key = { namespace: set.metadata.namespace ?? '', name: set.metadata.name };
    await mutate(store, resources.replicaSets, key, (object) => {
      if (object.spec.replicas === replicas) return false;
      object.spec.replicas = replicas;
      return true;
    });
  }

  async function writeStatus(
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

  async function cleanUp(deployment: Deployment, currentUid: string | undefined): Promise<void> {
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
        if (!isMissing(error))
          context.logger.debug(
            { set: set.metadata.name, error: describe(error) },
            'old ReplicaSet stays',
          );
      }
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
    const { [hashLabel]: _hash, ...labels } = template.metadata?.labels ?? {};
    const { annotations = {} } = template.metadata ?? {};
    return canonical({ spec: template.spec, labels, annotations });
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

function statusOf(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  current: ReplicaSet | undefined,
  observedGeneration: number,
): ReplicaStatus {
  const now = `${new Date().toISOString().slice(0, 19)}Z`;
  const wanted = deployment.spec.replicas ?? 1;
  const replicas = sum(sets.map((set) => set.status?.replicas ?? 0));
  const ready = sum(sets.map((set) => set.status?.readyReplicas ?? 0));
  const available = sum(sets.map((set) => set.status?.availableReplicas ?? 0));
  const updated = current?.status?.replicas ?? 0;
  const { maxUnavailable } = deployment.spec.strategy?.rollingUpdate ?? {};
  const enough = available >= wanted - resolveCount(maxUnavailable, wanted, false);
  const complete = updated === wanted && replicas === wanted && available === wanted;
  const before = deployment.status?.conditions ?? [];
  const name = current?.metadata.name ?? '';
  const progressing = before.find((c) => c.type === 'Progressing');
  const progressed =
    deployment.status?.updatedReplicas !== updated ||
    deployment.status.availableReplicas !== available;
  const lastUpdate = progressed ? now : (progressing?.lastUpdateTime ?? now);
  const deadlineMs = (deployment.spec.progressDeadlineSeconds ?? 600) * 1000;
  const late =
    !complete &&
    deployment.spec.paused !== true &&
    Date.parse(now) - Date.parse(lastUpdate) > deadlineMs;
  const conditions: Condition[] = [
    enough
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
        },
    progressOf(name, { complete, late, paused: deployment.spec.paused === true }),
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
      const transition = old?.status === condition.status ? (old.lastTransitionTime ?? now) : now;
      return {
        ...condition,
        lastUpdateTime: condition.type === 'Progressing' ? lastUpdate : now,
        lastTransitionTime: transition,
      };
    }),
  };
}

function progressOf(
  name: string,
  state: { complete: boolean; late: boolean; paused: boolean },
): Condition {
  if (state.paused)
    return {
      type: 'Progressing',
      status: 'Unknown',
      reason: 'DeploymentPaused',
      message: 'Deployment is paused',
    };
  if (state.complete) {
    return {
      type: 'Progressing',
      status: 'True',
      reason: 'NewReplicaSetAvailable',
      message: `ReplicaSet "${name}" has successfully progressed.`,
    };
  }
  if (state.late) {
    return {
      type: 'Progressing',
      status: 'False',
      reason: 'ProgressDeadlineExceeded',
      message: `ReplicaSet "${name}" has timed out progressing.`,
    };
  }
  return {
    type: 'Progressing',
    status: 'True',
    reason: 'ReplicaSetUpdated',
    message: `ReplicaSet "${name}" is progressing.`,
  };
}
