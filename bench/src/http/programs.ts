import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
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

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
