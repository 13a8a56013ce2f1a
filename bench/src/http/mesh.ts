import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dataplaneModeLabel, useWaypointLabel } from '@ambit/api';
import type { Sandbox, TourCluster, TourPod } from '@ambit/sandbox';
import { startSandbox } from '@ambit/sandbox';
import { benchPod, pidsOf, ready, until } from '../pods.ts';
import type { Candidate } from './compare.ts';
import { envoyArguments, envoyConfig } from './envoy.ts';
import { programFile } from './programs.ts';
import type { HttpResult, HttpRow } from './work.ts';
import { isHttp2 } from './work.ts';

const plain = 'bench-plain';
const meshed = 'bench-ambit';
const port = 7001;
const routes = 100;
const policies = 20;

/** The same ways in a cluster of two nodes: the client on one, the server and a single proxy on the other. */
export interface MeshWays {
  readonly candidates: readonly Candidate[];
  close(): Promise<void>;
}

export async function startMeshWays(
  root: string,
  envoy: string | undefined,
  base: string,
): Promise<MeshWays> {
  const sandbox = await startSandbox(
    { root, samples: false, verbose: false, tour: false },
    (_text, work) => work(),
  );
  try {
    const { tour } = sandbox;
    await startPods(tour);
    const server = await ready(tour, plain, 'server');
    await startProxies(tour, root, server, envoy);
    await enrol(tour);
    const candidates = await candidatesOf(tour, base, envoy !== undefined);
    return { candidates, close: () => closeWays(sandbox) };
  } catch (error) {
    await sandbox.close();
    throw error;
  }
}

function closeWays(sandbox: Sandbox): Promise<void> {
  return sandbox.close();
}

async function startPods(tour: TourCluster): Promise<void> {
  for (const namespace of [plain, meshed]) {
    await tour.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
    const backend = ['node', programFile('bench-http-backend'), String(port)];
    await tour.apply(benchPod(namespace, 'server', 'node-2', backend));
    // Waits until somebody executes the load in it.
    await tour.apply(benchPod(namespace, 'client', 'node-1', ['sleep', '86400']));
    await tour.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'server', namespace },
      spec: {
        selector: { app: 'server' },
        ports: [
          { name: 'http', port, targetPort: port },
          { name: 'grpc', port: port + 1, targetPort: port + 1 },
        ],
      },
    });
  }
  for (const namespace of [plain, meshed]) {
    for (const name of ['server', 'client']) await ready(tour, namespace, name);
  }
}

async function startProxies(
  tour: TourCluster,
  root: string,
  server: TourPod,
  envoy: string | undefined,
): Promise<void> {
  const ports = [String(port), String(port + 1)];
  const command = ['node', programFile('bench-http-plain'), server.ip, ...ports, String(port)];
  await tour.apply(benchPod(plain, 'proxy', 'node-2', command));
  await ready(tour, plain, 'proxy');
  if (envoy === undefined) return;
  const folder = join(root, '.cache/bench');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'envoy-mesh.json');
  const target = { host: server.ip, http1: port, http2: port + 1, routes, policies };
  writeFileSync(file, envoyConfig({ ...target, listen: [port, port + 1] }));
  await tour.apply(benchPod(plain, 'envoy', 'node-2', [envoy, ...envoyArguments(file)]));
  await ready(tour, plain, 'envoy');
}

/** The mesh with a waypoint, as many routes and policies as Envoy has. */
async function enrol(tour: TourCluster): Promise<void> {
  await tour.label(meshed, dataplaneModeLabel, 'ambient');
  await tour.apply({
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'waypoint', namespace: meshed },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    },
  });
  await tour.apply({
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'server', namespace: meshed },
    spec: {
      hosts: ['server'],
      // Half of them for each port; the one that is asked for comes last.
      http: [port + 1, port].flatMap((number) =>
        Array.from({ length: routes / 2 }, (_, index) => ({
          match: [{ uri: { prefix: `/path-${routes / 2 - 1 - index + 9}` }, port: number }],
          route: [{ destination: { host: 'server', port: { number } } }],
        })),
      ),
    },
  });
  for (let index = 0; index < policies; index += 1) {
    await tour.apply({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: `p-${index}`, namespace: meshed },
      spec: {
        targetRefs: [{ group: '', kind: 'Service', name: 'server' }],
        action: 'DENY',
        rules: [{ to: [{ operation: { paths: [`/forbidden-${index}*`] } }] }],
      },
    });
  }
  await until('captured pods and a ready waypoint', async () => {
    const pods = await tour.pods(meshed);
    const captured = pods.filter(({ labels }) => labels.has('app'));
    return (
      pods.length === 3 && pods.every((one) => one.ready) && captured.every((one) => one.redirected)
    );
  });
  await tour.label(meshed, useWaypointLabel, 'waypoint');
  await until('requests that pass the waypoint', async () => {
    const waypoint = (await tour.pods(meshed)).find(({ labels }) => !labels.has('app'));
    await runLoad(tour, meshed, 'server.bench-ambit', rowOf(), 0.2).catch(() => undefined);
    return (await tour.logs(meshed, waypoint?.name ?? '')).includes('"GET /path-9 HTTP/1.1" 200');
  });
}

function rowOf(): HttpRow {
  return { name: 'probe', work: { kind: 'keep-alive', connections: 1, path: '/path-9' } };
}

async function candidatesOf(
  tour: TourCluster,
  base: string,
  withEnvoy: boolean,
): Promise<readonly Candidate[]> {
  const way = async (name: string, to: string, proxies: readonly number[]): Promise<Candidate> => {
    const { ip } = await ready(tour, plain, to);
    return { name, proxies, run: (row, seconds) => runLoad(tour, plain, ip, row, seconds) };
  };
  const mesh = [...pidsOf('programs/ztunnel.mjs'), ...pidsOf('programs/waypoint.mjs')];
  return [
    await way('direct', 'server', []),
    await way(base, 'proxy', pidsOf('programs/bench-http-plain.mjs')),
    ...(withEnvoy ? [await way('Envoy, 100 routes', 'envoy', pidsOf('envoy/_bin/envoy'))] : []),
    {
      name: 'ztunnel, waypoint, ztunnel',
      proxies: mesh,
      run: (row, seconds) => runLoad(tour, meshed, 'server.bench-ambit', row, seconds),
    },
  ];
}

async function runLoad(
  tour: TourCluster,
  namespace: string,
  host: string,
  row: HttpRow,
  seconds: number,
): Promise<HttpResult> {
  const at = String(isHttp2(row.work) ? port + 1 : port);
  const command = ['node', programFile('bench-http-load'), host, at, String(seconds)];
  const { code, output } = await tour.exec(namespace, 'client', [
    ...command,
    JSON.stringify(row.work),
  ]);
  if (code !== 0) throw new Error(`the load on ${host} failed: ${output}`);
  return JSON.parse(output) as HttpResult;
}
