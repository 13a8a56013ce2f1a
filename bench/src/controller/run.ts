import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

/** A controller as it is shipped, beside the API. */
export interface RunningController {
  readonly child: ChildProcess;
  readonly controlPort: number;
  /** Milliseconds from the start of the process until everything was listed and compiled. */
  readonly coldMs: number;
  /** Seconds of CPU that this took. */
  readonly coldCpu: number;
  /** Mebibytes: now, and at the most so far. */
  memory(): { readonly now: number; readonly peak: number };
}

interface LogLine {
  readonly message?: string;
  readonly control?: { readonly port: number };
}

export async function startController(
  root: string,
  kubeconfig: string,
  onLine: (text: string) => void,
): Promise<RunningController> {
  const startedAt = performance.now();
  // As its image runs it.
  const flags = ['--max-semi-space-size=4', '--heap-growing-percent=50'];
  const child = spawn(process.execPath, [...flags, join(root, 'dist/programs/controller.mjs')], {
    env: {
      PATH: process.env['PATH'],
      KUBECONFIG: kubeconfig,
      POD_NAME: 'bench',
      CONTROL_ADDRESS: '127.0.0.1',
      SERVING_NAMES: '127.0.0.1',
      CONTROL_PORT: '0',
      METRICS_PORT: '0',
      WEBHOOK_PORT: '0',
      LOG_FORMAT: 'json',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  createInterface({ input: child.stderr }).on('line', onLine);
  let controlPort: number | undefined;
  let coldMs: number | undefined;
  let coldCpu = 0;
  const ready = new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the controller ended with ${code}`)));
    createInterface({ input: child.stdout }).on('line', (text) => {
      onLine(text);
      const { message, control } = JSON.parse(text) as LogLine;
      if (control !== undefined) controlPort = control.port;
      if (message === 'all sources are known') {
        coldMs = performance.now() - startedAt;
        coldCpu = cpuOf(child.pid ?? 0);
      }
      if (controlPort !== undefined && coldMs !== undefined) resolve();
    });
  });
  await ready;
  return {
    child,
    controlPort: controlPort ?? 0,
    coldMs: coldMs ?? 0,
    coldCpu,
    memory: () => memoryOf(child.pid ?? 0),
  };
}

/** Seconds of CPU that a process has used; the kernel counts in hundredths. */
function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function memoryOf(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) / 1024;
  return { now: of('VmRSS'), peak: of('VmHWM') };
}
