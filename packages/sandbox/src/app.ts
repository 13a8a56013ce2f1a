import { randomBytes } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { crds } from '@ambit/controller';
import { capturePackets } from '@ambit/core';
import { createApiServer } from './apiserver/index.ts';
import { applyManifest } from './apply.ts';
import type { Cluster, ClusterLogger } from './cluster/index.ts';
import { adaptStore, startCluster } from './cluster/index.ts';
import type { SandboxConfig } from './config.ts';
import { sandboxImages } from './images.ts';
import { renderKubeconfig } from './kubeconfig.ts';
import { network } from './net/plan.ts';
import { makeApiCertificates } from './pki.ts';
import type { LinkCapture, TourCluster, TourPod } from './tour/cluster.ts';
import { createKubeTour } from './tour/kube.ts';
import { eventually } from './tour/wait.ts';

/** A running sandbox. */
export interface Sandbox {
  /** The administrator's kubeconfig for an API that is reached at `server`. */
  kubeconfig(server: string): string;
  readonly tour: TourCluster;
  readonly cluster: Cluster;
  /** Serves a connection from outside: `api`, or a service as `namespace/name:port`. */
  accept(target: string, socket: Socket): void;
  close(): Promise<void>;
}

/** Tells that a step is under way and how it ended. */
export type Step = <T>(text: string, work: () => Promise<T>) => Promise<T>;

const apiPort = 6443;
const runDir = '/run/ambit';
const meshReadyMs = 60_000;
const keptReadyMs = 10_000;
const nodes = [
  { name: 'node-1', region: 'local', zone: 'zone-a' },
  { name: 'node-2', region: 'local', zone: 'zone-b' },
] as const;

/** Starts everything, step by step; what was started is stopped again when a later step fails. */
export async function startSandbox(config: SandboxConfig, step: Step): Promise<Sandbox> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    return await start(config, step, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  config: SandboxConfig,
  step: Step,
  closers: (() => Promise<unknown>)[],
  close: () => Promise<void>,
): Promise<Sandbox> {
  const logger = createLogger(config.verbose);
  const adminToken = randomBytes(24).toString('base64url');
  const running: { cluster?: Cluster } = {};
  const certificates = await makeApiCertificates(
    [
      'localhost',
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      'kubernetes.default.svc.cluster.local',
    ],
    [
      '127.0.0.1',
      network.controlPlane.v4,
      network.apiService.v4,
      network.controlPlane.v6,
      network.apiService.v6,
    ],
    Date.now(),
  );
  const api = await step('Kubernetes API', () =>
    createApiServer({
      tls: certificates,
      listen: [{ host: '0.0.0.0', port: apiPort }],
      adminToken,
      kubeletProxy: (request) => running.cluster?.kubeletProxy(request),
      dialService: (namespace, name, port) =>
        running.cluster === undefined
          ? Promise.reject(new Error('the cluster is not up yet'))
          : running.cluster.dialService(namespace, name, port),
      onError: (error) => logger.error({ err: String(error) }, 'API'),
      ...(config.stateFile === undefined ? {} : { stateFile: config.stateFile }),
    }),
  );
  closers.push(() => api.close());
  await writePlugin(config.root);
  const cluster = await step('two nodes, their kubelets, services and names', () =>
    startCluster({
      store: adaptStore(api.store),
      tokens: api.tokens,
      runDir,
      shared: [realpathSync(config.root)],
      nodes,
      images: sandboxImages(config.root, config.verbose ? 'debug' : 'info'),
      logger,
      apiAddress: { host: network.controlPlane.v4, port: apiPort },
      apiCa: certificates.ca,
    }),
  );
  closers.push(() => cluster.close());
  running.cluster = cluster;
  const kubeconfig = (server: string): string =>
    renderKubeconfig(server, certificates.ca, adminToken);
  const tour = createKubeTour({
    kubeconfig: kubeconfig(`https://127.0.0.1:${apiPort}`),
    captureNodeLink,
  });
  await step('the mesh: controller, ztunnel and cni-redirect on each node', () =>
    startMesh(config.root, tour),
  );
  if (config.samples) await step('the sample shop', () => startSamples(config.root, tour));
  return {
    kubeconfig,
    tour,
    cluster,
    accept: (target, socket) => accept(target, socket, (own) => api.accept(own), cluster),
    close,
  };
}

/** On a node the plugin is a binary; here it is the bundle, run by the pinned Node. */
async function writePlugin(root: string): Promise<void> {
  const bundle = join(root, 'dist/programs/cni-plugin.mjs');
  // Where the agent's pod mounts it from: the same path on each of the nodes.
  for (const { name } of nodes) {
    const folder = join(runDir, 'nodes', name, 'var/lib/ambit-plugin');
    await mkdir(folder, { recursive: true });
    await writeFile(
      join(folder, 'ambit-cni'),
      `#!/bin/sh\nexec '${process.execPath}' --no-warnings '${bundle}'\n`,
      { mode: 0o755 },
    );
  }
}

async function startMesh(root: string, tour: TourCluster): Promise<void> {
  await tour.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'istio-system' } });
  for (const crd of crds()) await tour.apply(crd);
  await applyManifest(tour, join(root, 'packages/sandbox/manifests/mesh.yaml'));
  await untilReady(tour, 'istio-system', 1 + 2 * nodes.length);
}

async function startSamples(root: string, tour: TourCluster): Promise<void> {
  // Of a cluster that was kept the samples are the user's: as they left them, ready or not.
  if (await tour.exists({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })) {
    await eventually(() => allReady(tour, ['shop', 'clients']), keptReadyMs);
    return;
  }
  for (const file of ['shop.yaml', 'clients.yaml'])
    await applyManifest(tour, join(root, 'samples/shop', file));
  await untilReady(tour, 'shop', 6);
  await untilReady(tour, 'clients', 2);
}

async function allReady(
  tour: TourCluster,
  namespaces: readonly string[],
): Promise<true | undefined> {
  const pods = (await Promise.all(namespaces.map((name) => tour.pods(name)))).flat();
  return pods.every((pod) => pod.ready) || undefined;
}

async function untilReady(tour: TourCluster, namespace: string, atLeast: number): Promise<void> {
  let pods: TourPod[] = [];
  const ready = await eventually(async () => {
    pods = await tour.pods(namespace);
    return (pods.length >= atLeast && pods.every((pod) => pod.ready)) || undefined;
  }, meshReadyMs);
  if (ready === true) return;
  const waiting = pods.filter((pod) => !pod.ready);
  const logs = await Promise.all(
    waiting.map(async (pod) => `${pod.name}:\n${await lastLines(tour, pod)}`),
  );
  throw new Error(
    `after ${meshReadyMs / 1000} s not all pods of ${namespace} are ready (${pods.length} of ${atLeast} exist)\n${logs.join('\n')}`,
  );
}

async function lastLines(tour: TourCluster, pod: TourPod): Promise<string> {
  try {
    return (await tour.logs(pod.namespace, pod.name)).trim().split('\n').slice(-8).join('\n');
  } catch {
    return '(no log)';
  }
}

function accept(
  target: string,
  socket: Socket,
  toApi: (socket: Socket) => void,
  cluster: Cluster,
): void {
  if (target === 'api') {
    toApi(socket);
    socket.resume();
    return;
  }
  const parts = /^([^/]+)\/([^:]+):(\d+)$/.exec(target);
  const [, namespace = '', name = '', port = ''] = parts ?? [];
  cluster.dialService(namespace, name, Number(port)).then(
    (upstream) => {
      upstream.on('error', () => socket.destroy());
      upstream.on('close', () => socket.destroy());
      socket.on('close', () => upstream.destroy());
      socket.pipe(upstream);
      upstream.pipe(socket);
    },
    () => socket.destroy(),
  );
}

function captureNodeLink(node: string): LinkCapture {
  const frames: Buffer[] = [];
  const index = nodes.findIndex(({ name }) => name === node) + 1;
  const capture = capturePackets(undefined, `node${index}`, (frame) => frames.push(frame));
  return { frames, stop: () => capture.stop() };
}

function createLogger(verbose: boolean): ClusterLogger {
  const write = (level: string) => (fields: object, message: string) => {
    process.stderr.write(`${level} ${message} ${JSON.stringify(fields)}\n`);
  };
  const silent = (): void => undefined;
  return {
    debug: silent,
    info: verbose ? write('info') : silent,
    warn: verbose ? write('warn') : silent,
    error: write('error'),
  };
}
