import { spawn, type ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { runToEnd } from '../../net/command.ts';
import type { Container } from '../container.ts';
import { quote } from '../container-root.ts';
import { enterContainer, systemPath } from '../process.ts';

export interface ExecOptions {
  readonly command: readonly string[];
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** The client's end of an exec or attach, whatever carries it. */
export interface StreamClient {
  /** Resolves when more may be written. */
  write(stream: 'stdout' | 'stderr', data: Buffer): Promise<void>;
  /** Tells the outcome as a Kubernetes Status and ends the session. */
  finish(status: object): Promise<void>;
  onStdin(listener: (data: Buffer) => void): void;
  onStdinEnd(listener: () => void): void;
  onResize(listener: (size: { width: number; height: number }) => void): void;
  onClose(listener: () => void): void;
}

export function execOptions(query: URLSearchParams): ExecOptions {
  const flag = (name: string): boolean => query.get(name) === 'true' || query.get(name) === '1';
  const tty = flag('tty');
  return {
    command: query.getAll('command'),
    stdin: flag('stdin'),
    stdout: flag('stdout'),
    // A terminal has one output.
    stderr: flag('stderr') && !tty,
    tty,
  };
}

export const success = { metadata: {}, status: 'Success' };

export function exitStatus(code: number): object {
  if (code === 0) return success;
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}

export function failure(message: string): object {
  return { metadata: {}, status: 'Failure', message, reason: 'InternalError', code: 500 };
}

/** Runs a command in a container for a client, until it ends or the client goes. */
export async function runExec(
  container: Container,
  options: ExecOptions,
  client: StreamClient,
): Promise<void> {
  const { current } = container;
  if (current === undefined) {
    await client.finish(failure(`container ${container.record.spec.name} is not running`));
    return;
  }
  const path = current.plan.env.get('PATH') ?? systemPath;
  const inside = enterContainer(
    current.process.pid,
    { workingDir: current.plan.workingDir, path },
    options.command,
  );
  const env = {
    ...Object.fromEntries(current.plan.env),
    PATH: systemPath,
    ...(options.tty ? { TERM: 'xterm' } : {}),
  };
  const child = options.tty
    ? spawnInTerminal(inside, env)
    : spawn(inside.command, inside.args, { env, stdio: 'pipe', detached: true });
  const kill = (): void => {
    try {
      process.kill(-(child.pid ?? Number.NaN), 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  client.onClose(kill);
  child.stdin?.on('error', () => undefined);
  if (options.stdin) {
    client.onStdin((data) => void child.stdin?.write(data));
    client.onStdinEnd(() => child.stdin?.end(options.tty ? '\u0004' : undefined));
  } else if (!options.tty) child.stdin?.end();
  if (options.tty) followSize(child, client);
  const code = await Promise.all([
    untilExit(child),
    pipe(child.stdout, options.stdout ? (data) => client.write('stdout', data) : undefined),
    pipe(child.stderr, options.stderr ? (data) => client.write('stderr', data) : undefined),
  ]).then(([exit]) => exit);
  kill();
  await client.finish(
    code === undefined ? failure('the command could not be started') : exitStatus(code),
  );
}

/** Shows the output of a running container, and feeds it if it reads its input. */
export async function runAttach(
  container: Container,
  options: ExecOptions,
  client: StreamClient,
): Promise<void> {
  const { current } = container;
  const log = container.logs.at(-1);
  if (current === undefined || log === undefined) {
    await client.finish(failure(`container ${container.record.spec.name} is not running`));
    return;
  }
  if (options.stdin) {
    client.onStdin((data) => void current.process.child.stdin?.write(data));
    if (container.record.spec.stdinOnce === true)
      client.onStdinEnd(() => current.process.child.stdin?.end());
  }
  await new Promise<void>((resolve) => {
    const done = (): void => {
      log.events.off('line', onLine);
      log.events.off('end', done);
      resolve();
    };
    const onLine = (line: { stream: 'stdout' | 'stderr'; text: string }): void => {
      if (options[line.stream]) void client.write(line.stream, Buffer.from(`${line.text}\n`));
    };
    log.events.on('line', onLine);
    log.events.on('end', done);
    client.onClose(done);
  });
  await client.finish(success);
}

async function untilExit(child: ChildProcess): Promise<number | undefined> {
  return new Promise((resolve) => {
    child.on('error', () => resolve(undefined));
    child.on('exit', (code, signal) => resolve(code ?? (signal === null ? undefined : 137)));
  });
}

async function pipe(
  from: Readable | null,
  to: ((data: Buffer) => Promise<void>) | undefined,
): Promise<void> {
  if (from === null) return;
  if (to === undefined) {
    from.resume();
    return;
  }
  try {
    for await (const chunk of from) await to(chunk as Buffer);
  } catch {
    // The client went, or the process was killed: its exit says the rest.
  }
}

/** Runs a command on a pseudo-terminal of its own, whose name it tells on descriptor 3. */
function spawnInTerminal(
  inside: { command: string; args: readonly string[] },
  env: NodeJS.ProcessEnv,
): ChildProcess {
  const line = [inside.command, ...inside.args].map(quote).join(' ');
  const script = `tty >&3; exec 3>&-; exec ${line}`;
  return spawn('script', ['-q', '-e', '-f', '-c', script, '/dev/null'], {
    env: { ...env, SHELL: '/bin/sh' },
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
  });
}

function followSize(child: ChildProcess, client: StreamClient): void {
  let terminal = '';
  let size: { width: number; height: number } | undefined;
  const apply = (): void => {
    if (size === undefined || !terminal.startsWith('/dev/')) return;
    const { width, height } = size;
    void runToEnd('stty', ['-F', terminal, 'rows', String(height), 'cols', String(width)]);
  };
  const name = child.stdio[3] as Readable | null | undefined;
  name?.setEncoding('utf8').on('data', (text: string) => {
    terminal = text.trim();
    apply();
  });
  name?.on('error', () => undefined);
  client.onResize((next) => {
    size = next;
    apply();
  });
}
