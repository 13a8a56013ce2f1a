import { spawn } from 'node:child_process';

/** A command that could not be started or ended other than with status 0. */
export class CommandFailed extends Error {
  readonly code = 'net/command-failed';
  readonly exitCode: number | undefined;

  constructor(command: string, exitCode: number | undefined, detail: string) {
    super(`${command} failed (${exitCode ?? 'not started'}): ${detail.trim() || 'no output'}`);
    this.exitCode = exitCode;
  }
}

export interface CommandOptions {
  readonly input?: string;
  /** File of the network namespace to run in; without it, the caller's. */
  readonly netns?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
}

const defaultTimeoutMs = 20_000;
const maxOutputBytes = 4 * 1024 * 1024;

/** Runs a command to its end and returns what it printed. Throws CommandFailed otherwise. */
export async function run(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { status, stdout, stderr } = await runToEnd(command, args, options);
  if (status !== 0) throw new CommandFailed([command, ...args].join(' '), status, stderr || stdout);
  return stdout;
}

export interface CommandResult {
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, whatever its status; killed after the timeout. */
export async function runToEnd(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [program, argv] =
    options.netns === undefined
      ? [command, [...args]]
      : ['nsenter', [`--net=${options.netns}`, '--', command, ...args]];
  return new Promise((resolve) => {
    const child = spawn(program, argv, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? defaultTimeoutMs,
      killSignal: 'SIGKILL',
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      if (stdout.length < maxOutputBytes) stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      if (stderr.length < maxOutputBytes) stderr += chunk;
    });
    child.on('error', (error) => resolve({ status: undefined, stdout, stderr: error.message }));
    child.on('close', (code) => resolve({ status: code ?? undefined, stdout, stderr }));
    // A command that does not read its input closes the pipe early; its status says what matters.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
  });
}

/** Applies many `ip` commands in one process. */
export async function ipBatch(lines: readonly string[], netns?: string): Promise<void> {
  if (lines.length === 0) return;
  await run('ip', ['-batch', '-'], {
    input: `${lines.join('\n')}\n`,
    ...(netns === undefined ? {} : { netns }),
  });
}
