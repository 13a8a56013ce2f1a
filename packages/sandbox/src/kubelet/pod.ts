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
import { createPodVolumes, VolumeError, type PodVolumes } from './volumes.ts';

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

/** Starts a pod's life on its node. */
export function startPodWorker(node: NodeContext, pod: Pod): PodWorker {
  return new RunningPod(node, pod);
}

class RunningPod implements PodWorker {
  readonly uid: string;
  readonly #node: NodeContext;
  readonly #namespace: string;
  readonly #name: string;
  readonly #directory: string;
  readonly #logDirectory: string;
  readonly #startTime = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  readonly #stopping = new AbortController();
  readonly #hostNetwork: boolean;
  readonly #volumes: PodVolumes;
  readonly #containers: readonly Container[];
  readonly #background: Promise<unknown>[] = [];
  readonly #life: Promise<void>;
  readonly #deadline: NodeJS.Timeout | undefined;
  #pod: Pod;
  #sandbox: PodSandbox | undefined;
  #sandboxReady = false;
  #ips: readonly string[];
  #volumePaths: ReadonlyMap<string, string> = new Map();
  #failure: { reason: string; message: string } | undefined;
  #publishing: Promise<void> | undefined;
  #dirty = false;
  #stopped: Promise<void> | undefined;

  constructor(node: NodeContext, pod: Pod) {
    const { namespace = '', name, uid = '' } = pod.metadata;
    this.uid = uid;
    this.#node = node;
    this.#pod = pod;
    this.#namespace = namespace;
    this.#name = name;
    this.#directory = join(node.root, 'var/lib/kubelet/pods', uid);
    this.#logDirectory = join(node.root, 'var/log/pods', `${namespace}_${name}_${uid}`);
    this.#hostNetwork = pod.spec.hostNetwork === true;
    this.#ips = this.#hostNetwork ? node.ips : [];
    this.#volumes = createPodVolumes(
      {
        store: node.store,
        tokens: node.tokens,
        nodeRoot: node.root,
        directory: join(this.#directory, 'volumes'),
        addresses: () => ({ podIps: this.#ips, hostIps: node.ips }),
      },
      pod.spec.volumes ?? [],
    );
    this.#containers = [
      ...(pod.spec.initContainers ?? []).map((spec) =>
        this.#makeContainer(spec, spec.restartPolicy === 'Always' ? 'sidecar' : 'init'),
      ),
      ...pod.spec.containers.map((spec) => this.#makeContainer(spec, 'main')),
    ];
    this.#deadline = this.#startDeadline(pod.spec.activeDeadlineSeconds);
    this.#life = this.#live()
      .then(async () => {
        if (!this.#isStopping()) await this.#removeSandbox();
      })
      .catch((error: unknown) =>
        node.logger.error(
          { pod: `${namespace}/${name}`, error: describe(error) },
          'pod worker failed',
        ),
      );
  }

  get pod(): Pod {
    return this.#pod;
  }

  get netns(): string | undefined {
    return this.#hostNetwork ? this.#node.netns : this.#sandbox?.netns;
  }

  container(wanted: string): Container | undefined {
    return this.#containers.find((c) => c.record.spec.name === wanted);
  }

  update(next: Pod): void {
    this.#pod = next;
  }

  async refreshVolumes(): Promise<void> {
    if (this.#volumePaths.size > 0 && !this.#isStopping()) await this.#volumes.refresh(this.#pod);
  }

  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stopOnce(graceMs);
    return this.#stopped;
  }

  async kill(): Promise<void> {
    clearTimeout(this.#deadline);
    await this.#end(0);
    await this.#removeSandbox().catch(() => undefined);
  }

  async #stopOnce(graceMs: number): Promise<void> {
    clearTimeout(this.#deadline);
    await this.#end(graceMs);
    this.#publish();
    await this.#publishing;
    await this.#removeSandbox();
    await rm(this.#directory, { recursive: true, force: true });
    await rm(this.#logDirectory, { recursive: true, force: true });
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  #startDeadline(seconds: number | undefined): NodeJS.Timeout | undefined {
    if (seconds === undefined) return undefined;
    return setTimeout(() => {
      this.#failure = {
        reason: 'DeadlineExceeded',
        message: 'Pod was active on the node longer than the specified deadline',
      };
      void this.#stopContainers('main', 2_000).then(() => this.#publish());
    }, seconds * 1000);
  }

  #makeContainer(spec: ContainerSpec, role: ContainerRecord['role']): Container {
    const address = (): string => this.#ips[0] ?? '127.0.0.1';
    const host: ContainerHost = {
      directory: join(this.#directory, 'containers', spec.name),
      logDirectory: join(this.#logDirectory, spec.name),
      probe: {
        get address() {
          return address();
        },
        connect: (host, port, signal) => this.#node.connect(host, port, signal),
      },
      plan: (container) =>
        planStart(
          {
            node: this.#node,
            pod: this.#pod,
            directory: join(this.#directory, 'containers', container.name),
            netns: this.#sandbox?.netns ?? this.#node.netns,
            ips: this.#ips,
            volumes: this.#volumePaths,
          },
          container,
        ),
      changed: () => this.#publish(),
      event: (type, reason, message, container) =>
        this.#node.events.record(this.#pod, {
          type,
          reason,
          message,
          fieldPath: `spec.containers{${container}}`,
        }),
    };
    return createContainer(newRecord(spec, role), host);
  }

  #publish(): void {
    this.#dirty = true;
    this.#publishing ??= this.#writeStatus().finally(() => {
      this.#publishing = undefined;
      if (this.#dirty) this.#publish();
    });
  }

  async #writeStatus(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#dirty = false;
    const facts = {
      records: this.#containers.map((container) => container.record),
      podIps: this.#ips,
      hostIps: this.#node.ips,
      startTime: this.#startTime,
      sandboxReady: this.#sandboxReady,
      failure: this.#failure,
    };
    const change = (object: Pod): boolean => {
      const next = statusOf(object, facts, new Date().toISOString().replace(/\.\d+Z$/, 'Z'));
      if (JSON.stringify(next) === JSON.stringify(object.status)) return false;
      object.status = next;
      return true;
    };
    try {
      await mutate(
        this.#node.store,
        resources.pods,
        { namespace: this.#namespace, name: this.#name, uid: this.uid },
        change,
        'status',
      );
    } catch (error) {
      this.#node.logger.warn(
        { pod: `${this.#namespace}/${this.#name}`, error: describe(error) },
        'pod status was not written',
      );
    }
  }

  /** Tries `step` until it works or the pod is stopped, telling each failure as an event. */
  async #untilDone<T>(reason: string, step: () => Promise<T>): Promise<T | undefined> {
    for (
      let delayMs = firstRetryMs;
      !this.#isStopping();
      delayMs = Math.min(lastRetryMs, delayMs * 2)
    ) {
      try {
        return await step();
      } catch (error) {
        if (this.#isStopping()) return undefined;
        const message =
          reason === 'FailedMount' && !(error instanceof VolumeError)
            ? `MountVolume.SetUp failed: ${describe(error)}`
            : describe(error);
        this.#node.events.record(this.#pod, { type: 'Warning', reason, message });
        this.#node.logger.info(
          {
            pod: `${this.#namespace}/${this.#name}`,
            node: this.#node.name,
            reason,
            error: message,
          },
          'pod cannot start yet',
        );
        await sleep(delayMs, this.#stopping.signal);
      }
    }
    return undefined;
  }

  async #live(): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    await Promise.all(
      this.#containers.map((c) =>
        mkdir(join(this.#directory, 'containers', c.record.spec.name), { recursive: true }),
      ),
    );
    this.#publish();
    const paths = await this.#untilDone('FailedMount', () => this.#volumes.prepare(this.#pod));
    if (paths === undefined) return;
    this.#volumePaths = paths;
    if (!this.#hostNetwork) {
      this.#sandbox = await this.#untilDone('FailedCreatePodSandBox', async () => {
        try {
          return await createPodSandbox({
            pod: this.#pod,
            cni: this.#node.cni,
            netnsDirectory: join(this.#node.root, 'var/run/netns'),
            netnsDirectoryOnNode: '/var/run/netns',
          });
        } catch (error) {
          throw new Error(`Failed to create pod sandbox: ${describe(error)}`, { cause: error });
        }
      });
      if (this.#sandbox === undefined) return;
      this.#ips = this.#sandbox.ips;
    }
    this.#sandboxReady = true;
    this.#publish();
    // Volumes may tell the pod's own address, known only now.
    await this.#volumes.refresh(this.#pod).catch(() => undefined);
    if (await this.#runInit()) await this.#runMain();
  }

  #restartAfter(role: ContainerRecord['role']): (exit: Exit) => boolean {
    const policy = this.#pod.spec.restartPolicy ?? 'Always';
    return (exit) => {
      if (this.#failure !== undefined) return false;
      if (role === 'sidecar') return true;
      if (role === 'init') return exit.exitCode !== 0 && policy !== 'Never';
      return policy === 'Always' || (policy === 'OnFailure' && exit.exitCode !== 0);
    };
  }

  async #runInit(): Promise<boolean> {
    for (const container of this.#containers) {
      if (this.#isStopping()) return false;
      const { role } = container.record;
      if (role === 'main') continue;
      if (role === 'sidecar') {
        this.#background.push(container.run(this.#restartAfter(role)));
        await container.untilStarted();
        continue;
      }
      const exit = await container.run(this.#restartAfter(role));
      container.record.ready = exit?.exitCode === 0;
      this.#publish();
      if (exit?.exitCode !== 0) return false;
    }
    return !this.#isStopping();
  }

  async #runMain(): Promise<void> {
    const main = this.#containers.filter((c) => c.record.role === 'main');
    for (const container of main)
      container.record.state = { waiting: { reason: 'ContainerCreating' } };
    await Promise.all(main.map((container) => container.run(this.#restartAfter('main'))));
    this.#publish();
    // All have ended for good: the rest of the pod goes, its logs stay until it is deleted.
    if (!this.#isStopping()) await this.#stopContainers('sidecar', 2_000);
  }

  async #stopContainers(role: ContainerRecord['role'], graceMs: number): Promise<void> {
    await Promise.all(
      this.#containers.filter((c) => c.record.role === role).map((c) => c.stop(graceMs)),
    );
  }

  async #removeSandbox(): Promise<void> {
    this.#sandboxReady = false;
    if (this.#sandbox === undefined) return;
    const held = this.#sandbox;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await held.remove();
        break;
      } catch (error) {
        this.#node.events.record(this.#pod, {
          type: 'Warning',
          reason: 'FailedKillPod',
          message: describe(error),
        });
        if (attempt >= 5) throw error;
        await sleep(firstRetryMs * 2 ** attempt);
      }
    }
    this.#sandbox = undefined;
  }

  async #end(graceMs: number): Promise<void> {
    this.#stopping.abort();
    await Promise.all([
      this.#stopContainers('main', graceMs),
      this.#stopContainers('init', graceMs),
    ]);
    await this.#stopContainers('sidecar', Math.min(graceMs, 2_000));
    await this.#life;
    await Promise.all(this.#background);
  }
}
