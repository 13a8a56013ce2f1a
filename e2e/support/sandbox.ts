import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCli } from '@ambit/cli';
import { createKubeClient } from '@ambit/controller';
import { KubeConfig } from '@kubernetes/client-node';
import type { Sandbox, TourPod } from '@ambit/sandbox';
import { startSandbox } from '@ambit/sandbox';

/** A whole cluster with the mesh and the sample shop, enrolled, and a waypoint for the shop. */
export interface MeshSandbox {
  readonly sandbox: Sandbox;
  /** Requests by curl from the client's pod; one connection for all of them. */
  ask(url: string, options?: readonly string[]): Promise<Asked[]>;
  ctl(...args: string[]): Promise<{ readonly status: number; readonly text: string }>;
  pod(namespace: string, labels: Readonly<Record<string, string>>): Promise<TourPod>;
  apply(...objects: object[]): Promise<void>;
  /** An object of the API by its path. */
  get(path: string): Promise<unknown>;
  remove(object: object): Promise<void>;
  /** Takes away everything that was applied since the last call. */
  clean(): Promise<void>;
  close(): Promise<void>;
}

export interface Asked {
  readonly status: number;
  readonly version: string;
  readonly body: string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));

export async function startMeshSandbox(): Promise<MeshSandbox> {
  const sandbox = await startSandbox(
    { root, tour: false, samples: true, verbose: false },
    async (_text, work) => work(),
  );
  const directory = mkdtempSync(join(tmpdir(), 'ambit-e2e-'));
  const kubeconfig = join(directory, 'kubeconfig');
  writeFileSync(kubeconfig, sandbox.kubeconfig('https://127.0.0.1:6443'));
  const { tour } = sandbox;
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const client = createKubeClient(config);
  const applied: object[] = [];
  const pod: MeshSandbox['pod'] = async (namespace, labels) => {
    const found = await until(async () =>
      (await tour.pods(namespace)).find(
        (one) =>
          one.ready &&
          Object.entries(labels).every(([key, value]) => one.labels.get(key) === value),
      ),
    );
    return found;
  };
  return {
    sandbox,
    pod,
    async ask(url, options = []) {
      const { name } = await pod('clients', { app: 'client' });
      const { output } = await tour.exec('clients', name, [
        'curl',
        '-s',
        '-m',
        '20',
        ...options,
        '-w',
        '\\n##%{http_code}\\n',
        url,
      ]);
      return parse(output);
    },
    async ctl(...args) {
      const lines: string[] = [];
      const write = (text: string): number => lines.push(text);
      const status = await runCli([...args, '--kubeconfig', kubeconfig], {
        out: write,
        err: write,
      });
      return { status, text: lines.join('\n') };
    },
    async apply(...objects) {
      for (const object of objects) {
        applied.push(object);
        await tour.apply(object);
      }
    },
    get: (path) => client.request({ path }),
    async remove(object) {
      applied.splice(applied.indexOf(object), 1);
      await tour.remove(object);
    },
    async clean() {
      for (const object of applied.splice(0).reverse()) {
        if (await tour.exists(object)) await tour.remove(object);
      }
    },
    async close() {
      client.close();
      await sandbox.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function parse(output: string): Asked[] {
  const answers: Asked[] = [];
  let body = '';
  for (const line of output.split('\n')) {
    const status = /^##(\d{3})$/.exec(line)?.[1];
    if (status === undefined) {
      body += line;
      continue;
    }
    answers.push({
      status: Number(status),
      version: /"version":"(v\d)"/.exec(body)?.[1] ?? '',
      body,
    });
    body = '';
  }
  return answers;
}

/** Looks again until there is something; configuration takes a moment to arrive. */
export async function until<T>(look: () => Promise<T | undefined>, timeoutMs = 15_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`not so after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
