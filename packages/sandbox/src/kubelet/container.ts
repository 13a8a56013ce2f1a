import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerSpec, LifecycleHandler } from '../cluster/objects.ts';
import { describe } from '../cluster/work-queue.ts';
import { runToEnd } from '../net/command.ts';
import { EnvironmentError } from './environment.ts';
import { openLogFile, type LogFile } from './logs.ts';
import { httpGet, startProbeLoop, type ProbeLoop, type ProbeTarget } from './probes.ts';
import {
  enterContainer,
  startProcess,
  systemPath,
  type ContainerProcess,
  type Exit,
} from './process.ts';
import { renderRootScript, type RootScript } from './container-root.ts';
import type { ContainerRecord } from './status.ts';

/** All that one start of a container needs, resolved afresh each time. */
export interface StartPlan {
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly workingDir: string;
  readonly netns: string;
  readonly ownHostname: boolean;
  readonly root: Omit<RootScript, 'root' | 'workingDir' | 'path'>;
}

export interface ContainerHost {
  readonly directory: string;
  readonly logDirectory: string;
  readonly probe: Pick<ProbeTarget, 'address' | 'connect'>;
  /** Throws EnvironmentError, or WaitingError with the reason to show. */
  plan(container: ContainerSpec): Promise<StartPlan>;
  changed(): void;
  event(type: 'Normal' | 'Warning', reason: string, message: string, container: string): void;
}

/** A container that cannot start yet, and the reason that its status shows. */
export class WaitingError extends Error {
  readonly code = 'kubelet/waiting';
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

const firstBackOffMs = 1_000;
const lastBackOffMs = 60_000;
const backOffResetMs = 10 * 60_000;

export interface Container {
  readonly record: ContainerRecord;
  /** The running process, for exec and attach. */
  readonly current: { readonly process: ContainerProcess; readonly plan: StartPlan } | undefined;
  /** Log files by start, newest last; the newest two are kept. */
  readonly logs: readonly LogFile[];
  /** Runs, restarting by policy, until it ends for good or is stopped. */
  run(restart: (exit: Exit) => boolean): Promise<Exit | undefined>;
  untilStarted(): Promise<void>;
  /** Ends it for good: preStop, SIGTERM, and SIGKILL after the grace. */
  stop(graceMs: number): Promise<void>;
  exec(
    argv: readonly string[],
    timeoutMs: number,
  ): Promise<{ status: number | undefined; output: string }>;
}

export function createContainer(record: ContainerRecord, host: ContainerHost): Container {
  return new RunningContainer(record, host);
}

class RunningContainer implements Container {
  readonly record: ContainerRecord;
  readonly logs: LogFile[] = [];
  readonly #host: ContainerHost;
  readonly #spec: ContainerSpec;
  readonly #started = Promise.withResolvers<undefined>();
  readonly #stopping = new AbortController();
  readonly #target: ProbeTarget;
  #current: { process: ContainerProcess; plan: StartPlan } | undefined;
  #probes: ProbeLoop[] = [];

  constructor(record: ContainerRecord, host: ContainerHost) {
    this.record = record;
    this.#host = host;
    this.#spec = record.spec;
    this.#target = {
      container: record.spec,
      get address() {
        return host.probe.address;
      },
      connect: (to, port, signal) => host.probe.connect(to, port, signal),
      exec: (argv, timeoutMs) => this.exec(argv, timeoutMs),
    };
  }

  get current(): { readonly process: ContainerProcess; readonly plan: StartPlan } | undefined {
    return this.#current;
  }

  async untilStarted(): Promise<void> {
    await this.#started.promise;
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    this.#started.resolve(undefined);
    for (const probe of this.#probes) probe.stop();
    if (this.#current !== undefined) await this.#terminate(this.#current.process, graceMs);
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async exec(
    argv: readonly string[],
    timeoutMs: number,
  ): Promise<{ status: number | undefined; output: string }> {
    if (this.#current === undefined)
      return { status: undefined, output: `container "${this.#spec.name}" is not running` };
    const { plan, process } = this.#current;
    const path = plan.env.get('PATH') ?? systemPath;
    const { command, args } = enterContainer(
      process.pid,
      { workingDir: plan.workingDir, path },
      argv,
    );
    const done = await runToEnd(command, args, {
      env: { ...Object.fromEntries(plan.env), PATH: systemPath },
      timeoutMs,
    });
    return { status: done.status, output: done.stdout + done.stderr };
  }

  async #runHook(handler: LifecycleHandler, timeoutMs: number): Promise<string | undefined> {
    if (handler.sleep !== undefined) {
      await sleep(Math.min(handler.sleep.seconds * 1000, timeoutMs));
      return undefined;
    }
    if (handler.httpGet !== undefined) {
      const result = await httpGet(handler.httpGet, this.#target, AbortSignal.timeout(timeoutMs));
      return result.success ? undefined : result.output;
    }
    if (handler.exec === undefined) return undefined;
    const { status, output } = await this.exec(handler.exec.command, timeoutMs);
    return status === 0
      ? undefined
      : `exited with ${status ?? 'no status'}: ${output.slice(0, 500)}`;
  }

  async #startOnce(): Promise<ContainerProcess> {
    const plan = await this.#host.plan(this.#spec);
    const id = randomBytes(32).toString('hex');
    const root = join(this.#host.directory, `root-${this.record.restartCount}`);
    await mkdir(root, { recursive: true });
    const script = join(this.#host.directory, `start-${this.record.restartCount}.sh`);
    const path = plan.env.get('PATH') ?? systemPath;
    await writeFile(
      script,
      renderRootScript({ ...plan.root, root, workingDir: plan.workingDir, path }),
    );
    const log = openLogFile(join(this.#host.logDirectory, `${this.record.restartCount}.log`));
    this.logs.push(log);
    if (this.logs.length > 2) await rm(this.logs.shift()?.path ?? '', { force: true });
    this.#stopping.signal.throwIfAborted();
    const process = startProcess({
      netns: plan.netns,
      script,
      argv: plan.argv,
      env: plan.env,
      stdin: this.#spec.stdin === true,
      ownHostname: plan.ownHostname,
      onOutput: (stream, chunk) => log.write(stream, chunk),
    });
    process.child.on('close', () => log.end());
    this.record.containerId = id;
    const problem = await process.started;
    await rm(script, { force: true });
    const why = problem ?? (this.#isStopping() ? 'the pod is being stopped' : undefined);
    if (why !== undefined) {
      process.kill('SIGKILL');
      await process.exited;
      throw new WaitingError('RunContainerError', why);
    }
    this.#current = { process, plan };
    this.record.state = { running: { startedAt: new Date().toISOString() } };
    this.#host.event('Normal', 'Started', `Started container ${this.#spec.name}`, this.#spec.name);
    return process;
  }

  #beginProbes(process: ContainerProcess): void {
    const { startupProbe, livenessProbe, readinessProbe } = this.#spec;
    const unhealthy = (kind: string) => (output: string) =>
      this.#host.event('Warning', 'Unhealthy', `${kind} probe failed: ${output}`, this.#spec.name);
    const kill = (kind: string) => (healthy: boolean) => {
      if (healthy) return;
      this.#host.event(
        'Normal',
        'Killing',
        `Container ${this.#spec.name} failed ${kind} probe, will be restarted`,
        this.#spec.name,
      );
      void this.#terminate(process, 30_000);
    };
    const onceStarted = (): void => {
      this.record.started = true;
      if (readinessProbe === undefined) this.record.ready = true;
      this.#host.changed();
      this.#started.resolve(undefined);
      if (livenessProbe !== undefined) {
        this.#probes.push(
          startProbeLoop({
            probe: livenessProbe,
            target: this.#target,
            initial: true,
            onVerdict: kill('liveness'),
            onFailure: unhealthy('Liveness'),
          }),
        );
      }
      if (readinessProbe === undefined) return;
      const onVerdict = (ready: boolean): void => {
        if (this.record.ready === ready) return;
        this.record.ready = ready;
        this.#host.changed();
      };
      this.#probes.push(
        startProbeLoop({
          probe: readinessProbe,
          target: this.#target,
          initial: false,
          onVerdict,
          onFailure: unhealthy('Readiness'),
        }),
      );
    };
    if (startupProbe === undefined) {
      onceStarted();
      return;
    }
    const loop = startProbeLoop({
      probe: startupProbe,
      target: this.#target,
      initial: false,
      onFailure: unhealthy('Startup'),
      onVerdict(healthy) {
        loop.stop();
        if (healthy) onceStarted();
        else kill('startup')(false);
      },
    });
    this.#probes.push(loop);
  }

  async #terminate(process: ContainerProcess, graceMs: number): Promise<void> {
    const deadline = Date.now() + graceMs;
    const preStop = this.#spec.lifecycle?.preStop;
    if (preStop !== undefined && this.#current?.process === process) {
      const problem = await Promise.race([
        this.#runHook(preStop, graceMs).catch(describe),
        process.exited.then(() => undefined),
      ]);
      if (problem !== undefined)
        this.#host.event('Warning', 'FailedPreStopHook', problem, this.#spec.name);
    }
    process.kill('SIGTERM');
    const timer = setTimeout(() => process.kill('SIGKILL'), Math.max(0, deadline - Date.now()));
    await process.exited;
    clearTimeout(timer);
  }

  async #runOnce(): Promise<Exit> {
    const process = await this.#startOnce();
    const startedAt = new Date().toISOString();
    const postStart = this.#spec.lifecycle?.postStart;
    const problem =
      postStart === undefined ? undefined : await this.#runHook(postStart, 60_000).catch(describe);
    if (problem !== undefined) {
      this.#host.event('Warning', 'FailedPostStartHook', problem, this.#spec.name);
      await this.#terminate(process, 2_000);
    } else if (process.child.exitCode === null && !this.#isStopping()) {
      this.#beginProbes(process);
    }
    this.#host.changed();
    const exit = await process.exited;
    for (const probe of this.#probes) probe.stop();
    this.#probes = [];
    this.#current = undefined;
    this.record.ready = false;
    this.record.started = false;
    this.record.state = {
      terminated: {
        exitCode: exit.exitCode,
        ...(exit.signal === undefined ? {} : { signal: exit.signal }),
        reason: exit.exitCode === 0 ? 'Completed' : 'Error',
        startedAt,
        finishedAt: new Date().toISOString(),
        ...(this.record.containerId === undefined
          ? {}
          : { containerID: `sandbox://${this.record.containerId}` }),
      },
    };
    await rm(join(this.#host.directory, `root-${this.record.restartCount}`), {
      recursive: true,
      force: true,
    });
    this.#host.changed();
    return exit;
  }

  /** Waits before another attempt, showing why. */
  async #wait(ms: number, reason: string, message: string): Promise<void> {
    this.record.state = { waiting: { reason, message } };
    this.#host.changed();
    await sleep(ms, this.#stopping.signal);
  }

  async run(restart: (exit: Exit) => boolean): Promise<Exit | undefined> {
    let backOffMs = 0;
    let attempts = 0;
    while (!this.#isStopping()) {
      const startedAtMs = Date.now();
      try {
        const exit = await this.#runOnce();
        attempts = 0;
        if (this.#isStopping() || !restart(exit)) return exit;
        if (this.record.state.terminated !== undefined)
          this.record.lastState = { terminated: this.record.state.terminated };
        if (Date.now() - startedAtMs > backOffResetMs) backOffMs = 0;
        if (backOffMs > 0) {
          this.#host.event(
            'Warning',
            'BackOff',
            `Back-off restarting failed container ${this.#spec.name}`,
            this.#spec.name,
          );
          await this.#wait(
            backOffMs,
            'CrashLoopBackOff',
            `back-off ${backOffMs / 1000}s restarting failed container=${this.#spec.name}`,
          );
        }
        backOffMs = Math.min(lastBackOffMs, Math.max(firstBackOffMs, backOffMs * 2));
        this.record.restartCount += 1;
      } catch (error) {
        if (this.#isStopping()) break;
        attempts += 1;
        const reason = reasonOf(error);
        this.#host.event('Warning', 'Failed', `Error: ${describe(error)}`, this.#spec.name);
        await this.#wait(Math.min(10_000, 250 * 2 ** attempts), reason, describe(error));
      }
    }
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof WaitingError) return error.reason;
  if (error instanceof EnvironmentError) return 'CreateContainerConfigError';
  return 'CreateContainerError';
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}
