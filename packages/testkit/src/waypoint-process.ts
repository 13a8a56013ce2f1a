import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FakeController } from './fake-controller.ts';

/** A port of loopback that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** A waypoint as a program of its own: `test/waypoint` of a controller that is not one. */
export interface WaypointProcess {
  readonly child: ChildProcess;
  /** Where it takes HBONE. */
  readonly port: number;
}

const startMs = 30_000;

export interface WaypointProcessOptions {
  /** Of this Node: they name the program. */
  readonly args: readonly string[];
  readonly podName?: string;
  /** Beside what the program needs to know. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Starts one and waits until it is ready. */
export async function startWaypointProcess(
  controller: Pick<FakeController, 'port' | 'tokenFile' | 'rootsFile'>,
  { args, podName = 'waypoint-1', env }: WaypointProcessOptions,
): Promise<WaypointProcess> {
  const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const [port, admin, metrics, readiness] = ports;
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      ...env,
      GATEWAY_NAME: 'waypoint',
      POD_NAMESPACE: 'test',
      SERVICE_ACCOUNT: 'waypoint',
      POD_NAME: podName,
      NODE_NAME: 'node-1',
      CONTROLLER_ADDRESS: `127.0.0.1:${controller.port}`,
      TOKEN_FILE: controller.tokenFile,
      ROOTS_FILE: controller.rootsFile,
      HBONE_PORT: String(port),
      ADMIN_PORT: String(admin),
      METRICS_PORT: String(metrics),
      READINESS_PORT: String(readiness),
    },
  });
  await untilReady(child, readiness);
  return { child, port };
}

async function untilReady(child: ChildProcess, port: number): Promise<void> {
  const deadline = performance.now() + startMs;
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
