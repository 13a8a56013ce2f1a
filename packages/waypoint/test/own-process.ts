import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { WaypointWorld } from './world.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

/** A waypoint in a process of its own, beside that of a world, whose figures are nobody else's. */
export interface OwnProcess {
  readonly port: number;
  /** Resident memory now, in MiB. */
  rssMiB(): number;
  close(): Promise<void>;
}

export async function startOwnProcess(world: WaypointWorld): Promise<OwnProcess> {
  const [hbone, admin, metrics, readiness] = await freePorts(4);
  const { tokenFile, rootsFile, port: control } = world.controller;
  const child = spawn(process.execPath, ['--conditions=mesh-source', '--no-warnings', main], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      GATEWAY_NAME: 'waypoint',
      POD_NAMESPACE: 'test',
      SERVICE_ACCOUNT: 'waypoint',
      POD_NAME: 'waypoint-own',
      NODE_NAME: 'node-1',
      CONTROLLER_ADDRESS: `127.0.0.1:${control}`,
      TOKEN_FILE: tokenFile,
      ROOTS_FILE: rootsFile,
      HBONE_PORT: String(hbone),
      ADMIN_PORT: String(admin),
      METRICS_PORT: String(metrics),
      READINESS_PORT: String(readiness),
      PRE_DRAIN: '0s',
      TERMINATION_DRAIN: '1s',
    },
  });
  await isReady(child, readiness);
  return {
    port: hbone,
    rssMiB: () => residentMiB(child.pid ?? 0),
    close: () =>
      new Promise((resolve) => {
        child.once('exit', () => resolve());
        child.kill('SIGKILL');
      }),
  };
}

function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}

async function isReady(child: ChildProcess, port: number): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`the waypoint did not start: ${String(child.exitCode)}`);
    const ready = await fetch(`http://127.0.0.1:${port}/healthz/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) return;
    await sleep(50);
  }
}

async function freePorts(count: number): Promise<[number, number, number, number]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports as [number, number, number, number];
}
