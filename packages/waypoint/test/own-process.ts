import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { startWaypointProcess } from '@ambit/testkit';
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
  const { child, port } = await startWaypointProcess(world.controller, {
    args: ['--conditions=mesh-source', '--no-warnings', main],
    podName: 'waypoint-own',
    env: { PRE_DRAIN: '0s', TERMINATION_DRAIN: '1s' },
  });
  return {
    port,
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
