import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TwoPorts } from './listen.ts';

/** File of one of the bundled programs, which lie beside this one. */
export function programFile(name: string): string {
  return join(dirname(fileURLToPath(import.meta.url)), `${name}.mjs`);
}

export interface Forked {
  readonly child: ChildProcess;
  readonly ports: TwoPorts;
}

/** Starts a program of the benchmark and waits for its ports. */
export async function forked(name: string, ...args: string[]): Promise<Forked> {
  const child = fork(programFile(name), args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ports = await new Promise<TwoPorts>((resolve) =>
    child.once('message', (told) => resolve(told as TwoPorts)),
  );
  return { child, ports };
}
