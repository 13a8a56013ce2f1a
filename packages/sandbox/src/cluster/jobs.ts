import type { Condition, Job, Pod } from './objects.ts';
import { isFinished, isReady, isTerminating, randomSuffix } from './labels.ts';
import { mutate, resources, splitKey, type ClusterStore } from './store.ts';
import {
  deletePod,
  listOwned,
  podFromTemplate,
  startController,
  type Controller,
  type ControllerContext,
} from './controller.ts';

/** Runs Jobs to completion, with as many attempts as their backoffLimit allows. */
export function startJobs(context: ControllerContext): Controller {
  const { store } = context;
  return startController(context, resources.jobs, [resources.pods], async (key, queue) => {
    const { namespace, name } = splitKey(key);
    const job = await store.get(resources.jobs, namespace, name);
    if (job === undefined || isTerminating(job) || hasEnded(job)) return;
    const pods = await listOwned(store, resources.pods, job);
    const active = pods.filter((pod) => !isFinished(pod) && !isTerminating(pod));
    const succeeded = pods.filter((pod) => pod.status?.phase === 'Succeeded').length;
    const failed = pods.filter((pod) => pod.status?.phase === 'Failed').length;
    const completions = job.spec.completions ?? 1;
    const done = succeeded >= completions;
    const hopeless = failed > (job.spec.backoffLimit ?? 6);
    if (done || hopeless) {
      for (const pod of active) await deletePod(store, pod);
    } else if (job.spec.suspend !== true) {
      const missing = Math.min(job.spec.parallelism ?? 1, completions - succeeded) - active.length;
      // Each failure doubles the wait for the next attempt.
      if (missing > 0 && failed > 0 && !waited(pods, failed)) queue.addAfter(key, 250);
      else for (let n = 0; n < missing; n += 1) await create(store, job);
    }
    await writeStatus(store, job, { active, succeeded, failed, done, hopeless });
  });
}

function hasEnded(job: Job): boolean {
  const conditions = job.status?.conditions ?? [];
  return conditions.some((c) => ['Complete', 'Failed'].includes(c.type) && c.status === 'True');
}

async function create(store: ClusterStore, job: Job): Promise<void> {
  const name = `${job.metadata.name.slice(0, 57)}-${randomSuffix()}`;
  const labels = {
    'batch.kubernetes.io/job-name': job.metadata.name,
    'job-name': job.metadata.name,
    'batch.kubernetes.io/controller-uid': job.metadata.uid ?? '',
  };
  await store.create(resources.pods, podFromTemplate(job, job.spec.template, { name, labels }));
}

async function writeStatus(
  store: ClusterStore,
  job: Job,
  facts: {
    active: readonly Pod[];
    succeeded: number;
    failed: number;
    done: boolean;
    hopeless: boolean;
  },
): Promise<void> {
  const { namespace = '', name, uid = '' } = job.metadata;
  const now = `${new Date().toISOString().slice(0, 19)}Z`;
  const active = facts.done || facts.hopeless ? 0 : facts.active.length;
  const finished = (type: string, reason: string, message: string): Condition => ({
    type,
    status: 'True',
    reason,
    message,
    lastTransitionTime: now,
  });
  await mutate(
    store,
    resources.jobs,
    { namespace, name, uid },
    (object) => {
      const next: NonNullable<Job['status']> = {
        ...object.status,
        active,
        ready: facts.active.filter(isReady).length,
        succeeded: facts.succeeded,
        failed: facts.failed,
        startTime: object.status?.startTime ?? now,
      };
      if (facts.done) {
        next.completionTime = now;
        next.conditions = [
          finished('Complete', 'CompletionsReached', 'Reached expected number of succeeded pods'),
        ];
      } else if (facts.hopeless) {
        next.conditions = [
          finished('Failed', 'BackoffLimitExceeded', 'Job has reached the specified backoff limit'),
        ];
      }
      if (JSON.stringify(next) === JSON.stringify(object.status)) return false;
      object.status = next;
      return true;
    },
    'status',
  );
}

const firstWaitMs = 1_000;
const lastWaitMs = 60_000;

function waited(pods: readonly Pod[], failed: number): boolean {
  const ends = pods
    .flatMap((pod) => pod.status?.containerStatuses ?? [])
    .map((c) => Date.parse(c.state.terminated?.finishedAt ?? ''));
  const last = Math.max(0, ...ends.filter((ms) => !Number.isNaN(ms)));
  return Date.now() - last >= Math.min(lastWaitMs, firstWaitMs * 2 ** (failed - 1));
}
