import { spawn, type ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';

export interface Exit {
  /** 128 + n for a process ended by signal n, as runtimes report it. */
  readonly exitCode: number;
  readonly signal: number | undefined;
}

export interface ContainerProcess {
  readonly pid: number;
  readonly child: ChildProcess;
  /** Resolves with undefined once the command runs in its root, or with why it could not. */
  readonly started: Promise<string | undefined>;
  readonly exited: Promise<Exit>;
  /** Signals the whole process group. */
  kill(signal: NodeJS.Signals): void;
}

const signals = new Map<string, number>([
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGQUIT', 3],
  ['SIGILL', 4],
  ['SIGABRT', 6],
  ['SIGBUS', 7],
  ['SIGFPE', 8],
  ['SIGKILL', 9],
  ['SIGUSR1', 10],
  ['SIGSEGV', 11],
  ['SIGUSR2', 12],
  ['SIGPIPE', 13],
  ['SIGALRM', 14],
  ['SIGTERM', 15],
]);
export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const maxReasonBytes = 4096;

export interface StartOptions {
  readonly netns: string;
  /** The script that builds the root and becomes the command. */
  readonly script: string;
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly stdin: boolean;
  readonly ownHostname: boolean;
  onOutput(stream: 'stdout' | 'stderr', chunk: Buffer): void;
}

/** Starts a container's command in its network, mount and (for a host name of its own) UTS namespace. */
export function startProcess(options: StartOptions): ContainerProcess {
  const uts = options.ownHostname ? ['--uts'] : [];
  const child = spawn(
    'nsenter',
    [
      `--net=${options.netns}`,
      ...['--', 'unshare', '--mount', ...uts, '--propagation', 'slave'],
      ...['--', 'sh', options.script, ...options.argv],
    ],
    {
      env: { ...Object.fromEntries(options.env), PATH: systemPath },
      stdio: [options.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
    },
  );
  child.stdout?.on('data', (chunk: Buffer) => options.onOutput('stdout', chunk));
  child.stderr?.on('data', (chunk: Buffer) => options.onOutput('stderr', chunk));
  child.stdin?.on('error', () => undefined);
  const exited = new Promise<Exit>((resolve) => {
    child.on('error', () => resolve({ exitCode: 128, signal: undefined }));
    child.on('exit', (code, signal) => {
      const number = signal === null ? undefined : (signals.get(signal) ?? 0);
      killGroup(child.pid, 'SIGKILL');
      resolve({ exitCode: code ?? 128 + (number ?? 0), signal: number });
    });
  });
  return {
    pid: child.pid ?? -1,
    child,
    started: untilStarted(child),
    exited,
    kill: (signal) => killGroup(child.pid, signal),
  };
}

function untilStarted(child: ChildProcess): Promise<string | undefined> {
  const report = child.stdio[3] as Readable | null | undefined;
  return new Promise((resolve) => {
    let text = '';
    report?.setEncoding('utf8');
    report?.on('data', (chunk: string) => {
      if (text.length < maxReasonBytes) text += chunk;
    });
    report?.on('error', () => undefined);
    report?.on('close', () => {
      const lines = text.trim().split('\n');
      if (lines.includes('ready')) resolve(undefined);
      else resolve(text.trim() || 'the container root could not be built; see its log');
    });
    child.on('error', (error) => resolve(error.message));
  });
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The group has ended already.
  }
}

/** The command that runs `argv` inside a running container. */
export function enterContainer(
  pid: number,
  options: { readonly workingDir: string; readonly path: string },
  argv: readonly string[],
): { readonly command: string; readonly args: readonly string[] } {
  const inside = 'cd "$1" && export PATH="$2" && shift 2 && exec "$@"';
  return {
    command: 'nsenter',
    args: [
      ...['--target', String(pid), '--mount', '--uts', '--net', '--'],
      ...['sh', '-c', inside, 'sh', options.workingDir, options.path, ...argv],
    ],
  };
}
