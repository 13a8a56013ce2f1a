import { realpathSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApiServer, type KubeletProxy } from '../../src/apiserver/index.ts';
import { makeApiCertificates } from '../../src/pki.ts';
import {
  adaptStore,
  samplesImage,
  startCluster,
  type Cluster,
  type ClusterStore,
} from '../../src/cluster/index.ts';
import type {
  ContainerSpec,
  Deployment,
  Pod,
  PodSpec,
  Service,
} from '../../src/cluster/objects.ts';
import { resources } from '../../src/cluster/store.ts';
import { runToEnd } from '../../src/net/command.ts';

export interface TestCluster {
  readonly cluster: Cluster;
  readonly store: ClusterStore;
  readonly warnings: string[];
  close(): Promise<void>;
}

export const namespace = 'test';
export const adminToken = 'of-the-administrator';
export const apiOrigin = '172.30.0.1:6443';

/** A cluster of two nodes around the API's own store, with one namespace to work in. */
export async function startTestCluster(): Promise<TestCluster> {
  const runDir = await mkdtemp(join(tmpdir(), 'ambit-cluster-'));
  const warnings: string[] = [];
  const warn = (fields: object, message: string): void =>
    void warnings.push(`${message} ${JSON.stringify(fields)}`);
  const logger = { debug: () => undefined, info: () => undefined, warn, error: warn };
  // The API needs the kubelets' side, which needs the API.
  const late: { kubeletProxy?: KubeletProxy } = {};
  const certificates = await makeApiCertificates(
    ['kubernetes.default.svc'],
    ['172.30.0.1', '10.96.0.1'],
    Date.now(),
  );
  const api = await createApiServer({
    tls: certificates,
    listen: [{ host: '0.0.0.0', port: 6443 }],
    adminToken,
    kubeletProxy: (request) => late.kubeletProxy?.(request),
    onError: (error) => warn({ error: String(error) }, 'API failed'),
  });
  const store = adaptStore(api.store);
  const cluster = await startCluster({
    store,
    tokens: api.tokens,
    runDir,
    // The pinned Node and the samples, also of a clone below /tmp, which pods have for themselves.
    shared: [realpathSync(process.cwd())],
    nodes: [
      { name: 'node-1', zone: 'zone-a', region: 'here' },
      { name: 'node-2', zone: 'zone-b', region: 'here' },
    ],
    images: [samplesImage(process.cwd())],
    logger,
    apiAddress: { host: '172.30.0.1', port: 6443 },
    apiCa: certificates.ca,
  });
  late.kubeletProxy = cluster.kubeletProxy;
  await store.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: namespace },
  });
  await until(
    async () => (await store.get(resources.serviceAccounts, namespace, 'default')) !== undefined,
  );
  return {
    cluster,
    store,
    warnings,
    async close() {
      await cluster.close();
      await api.close();
      await rm(runDir, { recursive: true, force: true });
    },
  };
}

/** Waits until `check` gives something other than undefined or false; says what was waited for. */
export async function until<T>(
  check: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 15_000,
  what: () => unknown = () => check.toString(),
): Promise<T> {
  for (const deadline = Date.now() + timeoutMs; ;) {
    const result = await check();
    if (result !== undefined && result !== false) return result;
    if (Date.now() > deadline)
      throw new Error(`in vain for ${timeoutMs} ms: ${JSON.stringify(await what())}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export function node(code: string): ContainerSpec {
  return { name: 'main', image: 'none', command: [process.execPath, '-e', code] };
}

/** Answers with its own name and the caller's address. */
export const webServer = node(
  `const h=require('http');const s=h.createServer((q,r)=>r.end(require('os').hostname()+' '+q.socket.remoteAddress.replace('::ffff:','')));
   s.listen(8080,'::');process.on('SIGTERM',()=>setTimeout(()=>s.close(()=>process.exit(0)),500))`,
);

export function pod(name: string, spec: Partial<PodSpec>): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name } },
    spec: { terminationGracePeriodSeconds: 2, containers: [], ...spec },
  };
}

export function deployment(name: string, replicas: number, container: ContainerSpec): Deployment {
  const labels = { app: name };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: { terminationGracePeriodSeconds: 3, containers: [container] },
      },
    },
  };
}

export function service(name: string, extra: Partial<Service['spec']> = {}): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: {
      selector: { app: name },
      ipFamilyPolicy: 'RequireDualStack',
      ports: [{ name: 'http', port: 80, targetPort: 8080 }],
      ...extra,
    },
  };
}

export async function readyPod(store: ClusterStore, name: string): Promise<Pod> {
  return until(
    async () => {
      const found = await store.get(resources.pods, namespace, name);
      return (
        found?.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ===
          true && found
      );
    },
    15_000,
    async () => (await store.get(resources.pods, namespace, name))?.status,
  );
}

export async function readyDeployment(
  store: ClusterStore,
  name: string,
  replicas: number,
): Promise<Pod[]> {
  await until(
    async () => {
      const status = (await store.get(resources.deployments, namespace, name))?.status;
      return (
        status?.availableReplicas === replicas &&
        status.updatedReplicas === replicas &&
        status.replicas === replicas
      );
    },
    20_000,
    async () => (await store.get(resources.deployments, namespace, name))?.status,
  );
  const pods = await store.list(resources.pods, { namespace });
  return pods.filter(
    (p) => p.metadata.labels?.['app'] === name && p.metadata.deletionTimestamp === undefined,
  );
}

/** Runs a command in a pod's first container. */
export async function inPod(
  { cluster }: TestCluster,
  name: string,
  ...argv: string[]
): Promise<string> {
  const worker = cluster.nodes
    .map((n) => n.kubelet.worker(namespace, name))
    .find((w) => w !== undefined);
  const container = worker?.container(worker.pod.spec.containers[0]?.name ?? '');
  if (container === undefined) throw new Error(`no container of pod ${name}`);
  const { status, output } = await container.exec(argv, 10_000);
  if (status !== 0)
    throw new Error(`${argv.join(' ')} in ${name}: ${status ?? 'no status'} ${output}`);
  return output;
}

export function fetchScript(url: string): string[] {
  return [
    process.execPath,
    '-e',
    `fetch(${JSON.stringify(url)},{signal:AbortSignal.timeout(5000)}).then(r=>r.text()).then(t=>process.stdout.write(t),e=>{console.error(e.cause??e);process.exit(1)})`,
  ];
}

export async function shell(script: string): Promise<string> {
  return (await runToEnd('sh', ['-c', script])).stdout.trim();
}
