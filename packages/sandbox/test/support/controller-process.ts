import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestApi } from './api-server.ts';

const main = fileURLToPath(new URL('../../../controller/src/main.ts', import.meta.url));

/** A controller as it runs in a pod: a process with its own account, that signals reach. */
export interface ControllerProcess {
  readonly name: string;
  /** JSON lines of its log. */
  readonly lines: readonly LogLine[];
  /** The port of its own address, as its log tells it. */
  port(which: 'control' | 'metrics' | 'webhook'): Promise<number>;
  signal(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL' | 'SIGTERM'): void;
  /** Ends it in order. */
  stop(): Promise<void>;
}

export interface LogLine {
  readonly message?: string;
  readonly [key: string]: unknown;
}

export function startControllerProcess(
  { server, ca, api }: TestApi,
  folder: string,
  name: string,
  settings: Readonly<Record<string, string>> = {},
): ControllerProcess {
  const { token } = api.tokens.mint({
    namespace: 'istio-system',
    serviceAccount: 'ambit-controller',
    expirationSeconds: 86_400,
  });
  const kubeconfig = join(folder, `${name}.kubeconfig`);
  const cluster = { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') };
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { token } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  const ports = { CONTROL_PORT: '0', METRICS_PORT: '0', WEBHOOK_PORT: '0' };
  const child = spawn(process.execPath, ['--no-warnings', '--conditions=mesh-source', main], {
    env: {
      PATH: process.env['PATH'],
      KUBECONFIG: kubeconfig,
      POD_NAME: name,
      CONTROL_ADDRESS: '127.0.0.1',
      LOG_FORMAT: 'json',
      ...ports,
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: LogLine[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) lines.push(JSON.parse(part) as LogLine);
  });
  const ended = once(child, 'exit');
  return {
    name,
    lines,
    port: async (which) => {
      for (;;) {
        const found = lines.find((one) => typeof one[which] === 'object')?.[which];
        if (found !== undefined) return (found as { port: number }).port;
        if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    signal: (signal) => void child.kill(signal),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      await ended;
    },
  };
}
