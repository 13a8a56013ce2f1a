import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerSpec, Pod } from '../cluster/objects.ts';
import { mutate, resources } from '../cluster/store.ts';
import { describe } from '../cluster/work-queue.ts';
import { createContainer, sleep, type Container, type ContainerHost } from './container.ts';
import type { NodeContext } from './node-context.ts';
import { createPodSandbox, type PodSandbox } from './pod-sandbox.ts';
import { planStart } from './pod-start.ts';
import type { Exit } from './process.ts';
import { newRecord, statusOf, type ContainerRecord } from './status.ts';
import { createPodVolumes, VolumeError } from './volumes.ts';

/** One pod on its node, from its first start to its end. */
export interface PodWorker {
  readonly uid: string;
  readonly pod: Pod;
  container(name: string): Container | undefined;
  /** The namespace a port-forward enters; undefined before the pod has one. */
  readonly netns: string | undefined;
  update(pod: Pod): void;
  /** Brings changed configuration and fresh tokens into its volumes. */
  refreshVolumes(): Promise<void>;
  /** Ends it in order; resolves when nothing of it is left on the node. */
  stop(graceMs: number): Promise<void>;
  /** Ends it at once, as the node goes down: the API is not told. */
  kill(): Promise<void>;
}

const firstRetryMs = 200;
const lastRetryMs = 5_000;

export function startPodWorker(node: NodeContext, initial: Pod): PodWorker {
  let pod = initial;
  const uid = initial.metadata.uid ?? '';
  const namespace = initial.metadata.namespace ?? '';
  const { name } = initial.metadata;
  const directory = join(node.root, 'var/lib/kubelet/pods', uid);
  const logDirectory = join(node.root, 'var/log/pods', `${namespace}_${name}_${uid}`);
  const startTime = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const stopping = new AbortController();
  const hostNetwork = initial.spec.hostNetwork === true;
  let sandbox: PodSandbox | undefined;
  let sandboxReady = false;
  let ips: readonly string[] = hostNetwork ? node.ips : [];
  let volumePaths: ReadonlyMap<string, string> = new Map();
  let failure: { reason: string; message: string } | undefined;
  let publishing: Promise<void> | undefined;
  let dirty = false;

  const volumes = createPodVolumes(
    {
      store: node.store,
      tokens: node.tokens,
      nodeRoot: node.root,
      directory: join(directory, 'volumes'),
      addresses: () => ({ podIps: ips, hostIps: node.ips }),
    },
    initial.spec.volumes ?? [],
  );
  const containers: Container[] = [
    ...(initial.spec.initContainers ?? []).map((spec) =>
      makeContainer(spec, spec.restartPolicy === 'Always' ? 'sidecar' : 'init'),
    ),
    ...initial.spec.containers.map((spec) => makeContainer(spec, 'main')),
  ];

  function makeContainer(spec: ContainerSpec, role: ContainerRecord['role']): Container {
    const host: ContainerHost = {
      directory: join(directory, 'containers', spec.name),
      logDirectory: join(logDirectory, spec.name),
      probe: {
        get address() {
          return ips[0] ?? '127.0.0.1';
        },
        connect: (host, port, signal) => node.connect(host, port, signal),
      },
      plan: (container) =>
        planStart(
          {
            node,
            pod,
            directory: join(directory, 'containers', container.name),
            netns: sandbox?.netns ?? node.netns,
            ips,
            volumes: volumePaths,
          },
          container,
        ),
      changed: publish,
      event: (type, reason, message, container) =>
        node.events.record(pod, {
          type,
          reason,
          message,
          fieldPath: `spec.containers{${container}}`,
        }),
    };
    return createContainer(newRecord(spec, role), host);
  }

  function publish(): void {
    dirty = true;
    publishing ??= writeStatus().finally(() => {
      publishing = undefined;
      if (dirty) publish();
    });
  }

  async function writeStatus(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    dirty = false;
    const facts = {
      records: containers.map((container) => container.record),
      podIps: ips,
      hostIps: node.ips,
      startTime,
      sandboxReady,
      failure,
    };
    const change = (object: Pod): boolean => {
      const next = statusOf(object, facts, new Date().toISOString().replace(/\.\d+Z$/, 'Z'));
      if (JSON.stringify(next) === JSON.stringify(object.status)) return false;
      object.status = next;
      return true;
    };
    try {
      await mutate(node.store, resources.pods, { namespace, name, uid }, change, 'status');
    } catch (error) {
      node.logger.warn(
        { pod: `${namespace}/${name}`, error: describe(error) },
        'pod status was not written',
      );
    }
  }

  /** Tries `step` until it works or the pod is stopped, telling each failure as an event. */
  async function untilDone<T>(reason: string, step: () => Promise<T>): Promise<T | undefined> {
    for (
      let delayMs = firstRetryMs;
      !stopping.signal.aborted;
      delayMs = Math.min(lastRetryMs, delayMs * 2)
    ) {
      try {
        return await step();
      } catch (error) {
        if (stopping.signal.aborted as boolean) return undefined;
        const message =
          reason === 'FailedMount' && !(error instanceof VolumeError)
            ? `MountVolume.SetUp failed: ${describe(error)}`
            : describe(error);
        node.events.record(pod, { type: 'Warning', reason, message });
        node.logger.info(
          { pod: `${namespace}/${name}`, node: node.name, reason, error: message },
          'pod cannot start yet',
        );
        await sleep(delayMs, stopping.signal);
      }
    }
    return undefined;
  }

  async function live(): Promise<void> {
    await mkdir(directory, { recursive: true });
    await Promise.all(
      containers.map((c) =>
        mkdir(join(directory, 'containers', c.record.spec.name), { recursive: true }),
      ),
    );
    publish();
    const paths = await untilDone('FailedMount', () => volumes.prepare(pod));
    if (paths === undefined) return;
    volumePaths = paths;
    if (!hostNetwork) {
      sandbox = await untilDone('FailedCreatePodSandBox', async () => {
        try {
          return await createPodSandbox({
            pod,
            cni: node.cni,
            netnsDirectory: join(node.root, 'var/run/netns'),
            netnsDirectoryOnNode: '/var/run/netns',
          });
        } catch (error) {
          throw new Error(`Failed to create pod sandbox: ${describe(error)}`, { cause: error });
        }
      });
      if (sandbox === undefined) return;
      ips = sandbox.ips;
    }
    sandboxReady = true;
    publish();
    // Volumes may tell the pod's own address, known only now.
    await volumes.refresh(pod).catch(() => undefined);
    if (await runInit()) await runMain();
  }

  function restartAfter(role: ContainerRecord['role']): (exit: Exit) => boolean {
    const policy = initial.spec.restartPolicy ?? 'Always';
    return (exit) => {
      if (failure !== undefined) return false;
      if (role === 'sidecar') return true;
      if (role === 'init') return exit.exitCode !== 0 && policy !== 'Never';
      return policy === 'Always' || (policy === 'OnFailure' && exit.exitCode !== 0);
    };
  }

  const background: Promise<unknown>[] = [];

  async function runInit(): Promise<boolean> {
    for (const container of containers) {
      if (stopping.signal.aborted) return false;
      const { role } = container.record;
      if (role === 'main') continue;
      if (role === 'sidecar') {
        background.push(container.run(restartAfter(role)));
        await container.untilStarted();
        continue;
      }
      const exit = await container.run(restartAfter(role));
      container.record.ready = exit?.exitCode === 0;
      publish();
      if (exit?.exitCode !== 0) return false;
    }
    return !stopping.signal.aborted;
  }

  async function runMain(): Promise<void> {
    const main = containers.filter((c) => c.record.role === 'main');
    for (const container of main)
      container.record.state = { waiting: { reason: 'ContainerCreating' } };
    await Promise.all(main.map((container) => container.run(restartAfter('main'))));
    publish();
    // All have ended for good: the rest of the pod goes, its logs stay until it is deleted.
    if (!stopping.signal.aborted) await stopContainers('sidecar', 2_000);
  }

  async function stopContainers(role: ContainerRecord['role'], graceMs: number): Promise<void> {
    await Promise.all(containers.filter((c) => c.record.role === role).map((c) => c.stop(graceMs)));
  }

  async function removeSandbox(): Promise<void> {
    sandboxReady = false;
    if (sandbox === undefined) return;
    const held = sandbox;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await held.remove();
        break;
      } catch (error) {
        node.events.record(pod, {
          type: 'Warning',
          reason: 'FailedKillPod',
          message: describe(error),
        });
        if (attempt >= 5) throw error;
        await sleep(firstRetryMs * 2 ** attempt);
      }
    }
    sandbox = undefined;
  }

  async function end(graceMs: number): Promise<void> {
    stopping.abort();
    await Promise.all([stopContainers('main', graceMs), stopContainers('init', graceMs)]);
    await stopContainers('sidecar', Math.min(graceMs, 2_000));
    await life;
    await Promise.all(background);
  }

  const deadlineMs = initial.spec.activeDeadlineSeconds;
  const deadline =
    deadlineMs === undefined
      ? undefined
      : setTimeout(() => {
          failure = {
            reason: 'DeadlineExceeded',
            message: 'Pod was active on the node longer than the specified deadline',
          };
          void stopContainers('main', 2_000).then(publish);
        }, deadlineMs * 1000);

  const life = live()
    .then(async () => {
      if (!stopping.signal.aborted) await removeSandbox();
    })
    .catch((error: unknown) =>
      node.logger.error(
        { pod: `${namespace}/${name}`, error: describe(error) },
        'pod worker failed',
      ),
    );
  let stopped: Promise<void> | undefined;

  return {
    uid,
    get pod() {
      return pod;
    },
    get netns() {
      return hostNetwork ? node.netns : sandbox?.netns;
    },
    container: (wanted) => containers.find((c) => c.record.spec.name === wanted),
    update(next) {
      pod = next;
    },
    async refreshVolumes() {
      if (volumePaths.size > 0 && !stopping.signal.aborted) await volumes.refresh(pod);
    },
    stop(graceMs) {
      stopped ??= (async () => {
        clearTimeout(deadline);
        await end(graceMs);
        publish();
        await publishing;
        await removeSandbox();
        await rm(directory, { recursive: true, force: true });
        await rm(logDirectory, { recursive: true, force: true });
      })();
      return stopped;
    },
    async kill() {
      clearTimeout(deadline);
      await end(0);
      await removeSandbox().catch(() => undefined);
    },
  };
}
