// Commands, and programs that outlive the script: each has a file that says which process it is.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Unmet } from '../../scripts/lib/ensure.mjs';
import { path, paths } from './layout.mjs';

const env = { ...process.env, PATH: path };

/** Runs a command to its end; its output, or an error that shows what it said. */
export function run(command, args, options = {}) {
  const done = attempt(command, args, options);
  if (done.status === 0) return done.stdout ?? '';
  const said = `${done.stdout ?? ''}${done.stderr ?? ''}`.trim().split('\n').slice(-8).join('\n');
  throw new Unmet(`${command} ${args.join(' ')} failed: ${done.error?.message ?? said}`);
}

/** The same for commands that may fail. */
export function attempt(command, args, options = {}) {
  const { env: more, ...rest } = options;
  return spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    ...rest,
    env: { ...env, ...more },
  });
}

export const inNetns = (netns, command, args) => [
  'nsenter',
  [`--net=/run/netns/${netns}`, '--', command, ...args],
];

/** State and start time (in clock ticks since boot) of a process; undefined when there is none. */
function look(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0], started: fields[19] };
  } catch {
    return undefined;
  }
}

function readPid(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** The process of a file, if it runs still: a zombie does not, nor does another that got its number. */
export function alive(file) {
  const known = readPid(file);
  if (known === undefined) return undefined;
  const now = look(known.pid);
  const same = now !== undefined && now.started === known.started;
  return same && !['Z', 'X'].includes(now.state) ? known.pid : undefined;
}

export function remember(file, pid) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify({ pid, started: look(pid)?.started }));
}

export const pidFile = (name) => join(paths.run, 'pids', name);
export const logFile = (name) => join(paths.logs, `${name}.log`);

/** Starts a program in a session of its own unless it runs already. */
export function start(name, command, args) {
  const file = pidFile(name);
  const running = alive(file);
  if (running !== undefined) return running;
  mkdirSync(paths.logs, { recursive: true });
  const log = openSync(logFile(name), 'a');
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', log, log],
    env,
    cwd: '/',
  });
  closeSync(log);
  child.on('error', () => {});
  if (child.pid === undefined) throw new Unmet(`${command} does not start; see ${logFile(name)}`);
  child.unref();
  remember(file, child.pid);
  return child.pid;
}

/** Asks a program to end and waits; it is killed when it does not. */
export async function stop(file, signal = 'SIGTERM', graceMs = 5_000) {
  const pid = alive(file);
  if (pid !== undefined) {
    process.kill(pid, signal);
    const deadline = performance.now() + graceMs;
    while (alive(file) !== undefined && performance.now() < deadline) await sleep(50);
    if (alive(file) !== undefined) process.kill(pid, 'SIGKILL');
    while (alive(file) !== undefined && performance.now() < deadline + 10_000) await sleep(50);
  }
  rmSync(file, { force: true });
}

/** Looks again until it holds; the error says what was awaited and where to look. */
export async function waitFor(what, probe, { timeoutMs = 60_000, log, everyMs = 100 } = {}) {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > deadline) {
      const tail = log === undefined ? '' : `\n${lastLines(logFile(log))}`;
      throw new Unmet(`${what}: not so after ${timeoutMs / 1000} s${tail}`);
    }
    await sleep(everyMs);
  }
}

function lastLines(file) {
  try {
    return `${file}:\n${readFileSync(file, 'utf8').trim().split('\n').slice(-5).join('\n')}`;
  } catch {
    return `${file} is empty`;
  }
}
