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
  const child = spawn(process.execPath, [join(root, 'dist/programs/controller.mjs')], {
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
  const ready = new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the controller ended with ${code}`)));
    createInterface({ input: child.stdout }).on('line', (text) => {
      onLine(text);
      const { message, control } = JSON.parse(text) as LogLine;
      if (control !== undefined) controlPort = control.port;
      if (message === 'all sources are known') coldMs = performance.now() - startedAt;
      if (controlPort !== undefined && coldMs !== undefined) resolve();
    });
  });
  await ready;
  return {
    child,
    controlPort: controlPort ?? 0,
    coldMs: coldMs ?? 0,
    memory: () => memoryOf(child.pid ?? 0),
  };
}

function memoryOf(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) / 1024;
  return { now: of('VmRSS'), peak: of('VmHWM') };
}
