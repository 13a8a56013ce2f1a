import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCli } from '@ambit/cli';
import type { KubeClient } from '@ambit/controller';
import type { TourCluster, TourPod } from '@ambit/sandbox';

/**
 * A cluster with the mesh and the sample shop, for the suites: one of this machine (`sandbox.ts`), or with KUBECONFIG any
 * other in which the mesh is installed (`kubernetes.ts`).
 */
export interface MeshCluster {
  readonly kind: 'sandbox' | 'kubernetes';
  /** The file by which `kubectl` reaches it. */
  readonly kubeconfig: string;
  /** The cluster through its API; what is applied here stays until the cluster is closed. */
  readonly cluster: Hands;
  /** Requests by curl from the client's pod; one connection for all of them. */
  ask(url: string, options?: readonly string[]): Promise<Asked[]>;
  ctl(...args: string[]): Promise<{ readonly status: number; readonly text: string }>;
  /** A ready pod with these labels; waits for one. */
  pod(namespace: string, labels: Readonly<Record<string, string>>): Promise<TourPod>;
  /** Runs a script of the repository by Node in a pod. */
  script(pod: TourPod, path: string, ...args: string[]): Promise<string>;
  apply(...objects: object[]): Promise<void>;
  /** The same past validation, as it is when an object is older than the mesh: its namespace is exempt for the moment. */
  applyUnvalidated(namespace: string, ...objects: object[]): Promise<void>;
  /** An object of the API by its path. */
  get(path: string): Promise<unknown>;
  /** Changes what the patch names and nothing else; for objects that are others'. */
  patch(path: string, body: object): Promise<void>;
  remove(object: object): Promise<void>;
  /** Takes away everything that was applied since the last call. */
  clean(): Promise<void>;
  close(): Promise<void>;
}

export type Hands = Omit<TourCluster, 'captureNodeLink'>;

export interface Asked {
  readonly status: number;
  readonly version: string;
  readonly body: string;
}

export interface Ground {
  readonly kind: MeshCluster['kind'];
  readonly hands: Hands;
  readonly kubeconfig: string;
  readonly client: KubeClient;
  close(): Promise<void>;
}

/** What both kinds of clusters share. */
export function meshOn(ground: Ground): MeshCluster {
  const { kind, hands, kubeconfig, client } = ground;
  const applied: object[] = [];
  const pod: MeshCluster['pod'] = (namespace, labels) =>
    until(async () =>
      (await hands.pods(namespace)).find(
        (one) =>
          one.ready &&
          Object.entries(labels).every(([key, value]) => one.labels.get(key) === value),
      ),
    );
  return {
    kind,
    kubeconfig,
    cluster: hands,
    pod,
    async ask(url, options = []) {
      const { name } = await pod('clients', { app: 'client' });
      const format = ['-w', '\\n##%{http_code}\\n'];
      const command = ['curl', '-s', '-m', '20', ...options, ...format, url];
      return parse((await hands.exec('clients', name, command)).output);
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
    async script({ namespace, name }, path, ...args) {
      const command = ['node', '--input-type=module', '-e', sourceOf(path), path, ...args];
      return (await hands.exec(namespace, name, command)).output;
    },
    async apply(...objects) {
      for (const object of objects) {
        applied.push(object);
        await hands.apply(object);
      }
    },
    async applyUnvalidated(namespace, ...objects) {
      applied.push(...objects);
      await hands.label(namespace, 'ambit.dev/validation', 'disabled');
      // The API server may learn of the label a moment later.
      for (const object of objects)
        await until(() => hands.apply(object).then(always, never), 5_000);
      await hands.label(namespace, 'ambit.dev/validation', null);
    },
    get: (path) => client.request({ path }),
    async patch(path, body) {
      const contentType = 'application/merge-patch+json';
      await client.request({ method: 'PATCH', path, contentType, body });
    },
    async remove(object) {
      applied.splice(applied.indexOf(object), 1);
      await hands.remove(object);
    },
    async clean() {
      for (const object of applied.splice(0).reverse()) {
        if (!(await hands.exists(object))) continue;
        await hands.remove(object).catch(async (error: unknown) => {
          // Its owner, removed before it, may have taken it along meanwhile.
          if (await hands.exists(object)) throw error;
        });
      }
    },
    close: () => ground.close(),
  };
}

const always = (): true => true;
const never = (): undefined => undefined;

const root = fileURLToPath(new URL('../..', import.meta.url));

function sourceOf(path: string): string {
  return readFileSync(join(root, path), 'utf8');
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
