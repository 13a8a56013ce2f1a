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
  const { spec } = record;
  const logs: LogFile[] = [];
  const started = Promise.withResolvers<undefined>();
  const stopping = new AbortController();
  let current: { process: ContainerProcess; plan: StartPlan } | undefined;
  let probes: ProbeLoop[] = [];

  async function exec(
    argv: readonly string[],
    timeoutMs: number,
  ): Promise<{ status: number | undefined; output: string }> {
    if (current === undefined)
      return { status: undefined, output: `container "${spec.name}" is not running` };
    const { plan, process } = current;
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

  const target: ProbeTarget = {
    container: spec,
    get address() {
      return host.probe.address;
    },
    connect: (to, port, signal) => host.probe.connect(to, port, signal),
    exec,
  };

  async function runHook(
    handler: LifecycleHandler,
    timeoutMs: number,
  ): Promise<string | undefined> {
    if (handler.sleep !== undefined) {
      await sleep(Math.min(handler.sleep.seconds * 1000, timeoutMs));
      return undefined;
    }
    if (handler.httpGet !== undefined) {
      const result = await httpGet(handler.httpGet, target, AbortSignal.timeout(timeoutMs));
      return result.success ? undefined : result.output;
    }
    if (handler.exec === undefined) return undefined;
    const { status, output } = await exec(handler.exec.command, timeoutMs);
    return status === 0
      ? undefined
      : `exited with ${status ?? 'no status'}: ${output.slice(0, 500)}`;
  }

  async function startOnce(): Promise<{ process: ContainerProcess; log: LogFile }> {
    const plan = await host.plan(spec);
    const id = randomBytes(32).toString('hex');
    const root = join(host.directory, `root-${record.restartCount}`);
    await mkdir(root, { recursive: true });
    const script = join(host.directory, `start-${record.restartCount}.sh`);
    const path = plan.env.get('PATH') ?? systemPath;
    await writeFile(
      script,
      renderRootScript({ ...plan.root, root, workingDir: plan.workingDir, path }),
    );
    const log = openLogFile(join(host.logDirectory, `${record.restartCount}.log`));
    logs.push(log);
    if (logs.length > 2) await rm(logs.shift()?.path ?? '', { force: true });
    stopping.signal.throwIfAborted();
    const process = startProcess({
      netns: plan.netns,
      script,
      argv: plan.argv,
      env: plan.env,
      stdin: spec.stdin === true,
      ownHostname: plan.ownHostname,
      onOutput: (stream, chunk) => log.write(stream, chunk),
    });
    process.child.on('close', () => log.end());
    record.containerId = id;
    const problem = await process.started;
    await rm(script, { force: true });
    if (problem !== undefined) {
      process.kill('SIGKILL');
      await process.exited;
      throw new WaitingError('RunContainerError', problem);
    }
    if (stopping.signal.aborted) {
      process.kill('SIGKILL');
      await process.exited;
      throw new WaitingError('ContainerCannotRun', 'the pod is being stopped');
    }
    current = { process, plan };
    record.state = { running: { startedAt: new Date().toISOString() } };
    host.event('Normal', 'Started', `Started container ${spec.name}`, spec.name);
    return { process, log };
  }

  function beginProbes(process: ContainerProcess): void {
    const { startupProbe, livenessProbe, readinessProbe } = spec;
    const unhealthy = (kind: string) => (output: string) =>
      host.event('Warning', 'Unhealthy', `${kind} probe failed: ${output}`, spec.name);
    const kill = (kind: string) => (healthy: boolean) => {
      if (healthy) return;
      host.event(
        'Normal',
        'Killing',
        `Container ${spec.name} failed ${kind} probe, will be restarted`,
        spec.name,
      );
      void terminate(process, 30_000);
    };
    const onceStarted = (): void => {
      record.started = true;
      if (readinessProbe === undefined) record.ready = true;
      host.changed();
      started.resolve(undefined);
      if (livenessProbe !== undefined) {
        probes.push(
          startProbeLoop({
            probe: livenessProbe,
            target,
            initial: true,
            onVerdict: kill('liveness'),
            onFailure: unhealthy('Liveness'),
          }),
        );
      }
      if (readinessProbe === undefined) return;
      const onVerdict = (ready: boolean): void => {
        if (record.ready === ready) return;
        record.ready = ready;
        host.changed();
      };
      probes.push(
        startProbeLoop({
          probe: readinessProbe,
          target,
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
      target,
      initial: false,
      onFailure: unhealthy('Startup'),
      onVerdict(healthy) {
        loop.stop();
        if (healthy) onceStarted();
        else kill('startup')(false);
      },
    });
    probes.push(loop);
  }

  async function terminate(process: ContainerProcess, graceMs: number): Promise<void> {
    const deadline = Date.now() + graceMs;
    const preStop = spec.lifecycle?.preStop;
    if (preStop !== undefined && current?.process === process) {
      const problem = await Promise.race([
        runHook(preStop, graceMs).catch(describe),
        process.exited.then(() => undefined),
      ]);
      if (problem !== undefined) host.event('Warning', 'FailedPreStopHook', problem, spec.name);
    }
    process.kill('SIGTERM');
    const timer = setTimeout(() => process.kill('SIGKILL'), Math.max(0, deadline - Date.now()));
    await process.exited;
    clearTimeout(timer);
  }

  async function runOnce(): Promise<Exit> {
    const { process } = await startOnce();
    const startedAt = new Date().toISOString();
    const postStart = spec.lifecycle?.postStart;
    const problem =
      postStart === undefined ? undefined : await runHook(postStart, 60_000).catch(describe);
    if (problem !== undefined) {
      host.event('Warning', 'FailedPostStartHook', problem, spec.name);
      await terminate(process, 2_000);
    } else if (process.child.exitCode === null && !stopping.signal.aborted) {
      beginProbes(process);
    }
    host.changed();
    const exit = await process.exited;
    for (const probe of probes) probe.stop();
    probes = [];
    current = undefined;
    record.ready = false;
    record.started = false;
    record.state = {
      terminated: {
        exitCode: exit.exitCode,
        ...(exit.signal === undefined ? {} : { signal: exit.signal }),
        reason: exit.exitCode === 0 ? 'Completed' : 'Error',
        startedAt,
        finishedAt: new Date().toISOString(),
        ...(record.containerId === undefined
          ? {}
          : { containerID: `sandbox://${record.containerId}` }),
      },
    };
    await rm(join(host.directory, `root-${record.restartCount}`), { recursive: true, force: true });
    host.changed();
    return exit;
  }

  /** Waits before another attempt, showing why; true when stopped meanwhile. */
  async function wait(ms: number, reason: string, message: string): Promise<void> {
    record.state = { waiting: { reason, message } };
    host.changed();
    await sleep(ms, stopping.signal);
  }

  async function run(restart: (exit: Exit) => boolean): Promise<Exit | undefined> {
    let backOffMs = 0;
    let attempts = 0;
    while (!stopping.signal.aborted) {
      const startedAtMs = Date.now();
      try {
        const exit = await runOnce();
        attempts = 0;
        if (stopping.signal.aborted || !restart(exit)) return exit;
        if (record.state.terminated !== undefined)
          record.lastState = { terminated: record.state.terminated };
        if (Date.now() - startedAtMs > backOffResetMs) backOffMs = 0;
        if (backOffMs > 0) {
          host.event(
            'Warning',
            'BackOff',
            `Back-off restarting failed container ${spec.name}`,
            spec.name,
          );
          await wait(
            backOffMs,
            'CrashLoopBackOff',
            `back-off ${backOffMs / 1000}s restarting failed container=${spec.name}`,
          );
        }
        backOffMs = Math.min(lastBackOffMs, Math.max(firstBackOffMs, backOffMs * 2));
        record.restartCount += 1;
      } catch (error) {
        if (stopping.signal.aborted) break;
        attempts += 1;
        const reason = reasonOf(error);
        host.event('Warning', 'Failed', `Error: ${describe(error)}`, spec.name);
        await wait(Math.min(10_000, 250 * 2 ** attempts), reason, describe(error));
      }
    }
    return undefined;
  }

  return {
    record,
    logs,
    get current() {
      return current;
    },
    run,
    exec,
    async untilStarted() {
      await started.promise;
    },
    async stop(graceMs) {
      stopping.abort();
      started.resolve(undefined);
      const running = current?.process;
      for (const probe of probes) probe.stop();
      if (running !== undefined) await terminate(running, graceMs);
    },
  };
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
