import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { spawn } from 'node:child_process';
import { inNetns } from './netns.ts';

/** Starts a child that is born inside a network namespace; libuv forks in the calling thread. */
export function spawnInNetns(
  netnsFd: number,
  command: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  return inNetns(netnsFd, () => spawn(command, args, options));
}
