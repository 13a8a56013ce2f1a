import { join } from 'node:path';
import type { TourCluster } from '@ambit/sandbox';
import { benchPod, pidsOf, ready, until } from './pods.ts';
import type { LoadResult, Path, Work } from './work.ts';

/** The pods of the benchmark: a client and a server in two namespaces, one of them meshed, and two plain proxies. */
export interface BenchCluster {
  untilCaptured(): Promise<void>;
  /** Process ids of the proxies on a path: none, the plain pair, the two ztunnels. */
  proxies(path: Path): number[];
  load(path: Path, work: Work): Promise<LoadResult>;
  whileIdle<T>(path: Path, connections: number, look: () => T): Promise<T>;
}

const serverPort = 7001;
const proxyPort = 7101;
const plain = 'bench-plain';
const meshed = 'bench-ambit';

export async function prepareCluster(cluster: TourCluster, root: string): Promise<BenchCluster> {
  const program = (name: string): string => join(root, 'bench/src', name);
  for (const namespace of [plain, meshed]) {
    await cluster.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
    await cluster.apply(
      benchPod(namespace, 'server', 'node-2', ['node', program('echo.ts'), String(serverPort)]),
    );
    await cluster.apply(benchPod(namespace, 'client', 'node-1', ['node', program('wait.ts')]));
  }
  const server = await ready(cluster, plain, 'server');
  const far = ['node', program('plain-proxy.ts'), String(proxyPort), server.ip, String(serverPort)];
  await cluster.apply(benchPod(plain, 'proxy-far', 'node-2', far));
  const farPod = await ready(cluster, plain, 'proxy-far');
  const near = ['node', program('plain-proxy.ts'), String(proxyPort), farPod.ip, String(proxyPort)];
  await cluster.apply(benchPod(plain, 'proxy-near', 'node-1', near));
  const nearPod = await ready(cluster, plain, 'proxy-near');
  const meshedServer = await ready(cluster, meshed, 'server');
  for (const namespace of [plain, meshed]) await ready(cluster, namespace, 'client');

  const address = (path: Path): [host: string, port: number] => {
    if (path === 'direct') return [server.ip, serverPort];
    return path === 'ambit' ? [meshedServer.ip, serverPort] : [nearPod.ip, proxyPort];
  };
  const command = (path: Path, work: Work): string[] => {
    const [host, port] = address(path);
    return ['node', program('load.ts'), host, String(port), JSON.stringify(work)];
  };
  const namespaceOf = (path: Path): string => (path === 'ambit' ? meshed : plain);
  return {
    async untilCaptured() {
      await until('captured pods', async () =>
        (await cluster.pods(meshed)).every(({ redirected }) => redirected),
      );
    },
    proxies(path) {
      if (path === 'direct') return [];
      return pidsOf(path === 'ambit' ? 'programs/ztunnel.mjs' : 'bench/src/plain-proxy.ts');
    },
    async load(path, work) {
      const { code, output } = await cluster.exec(namespaceOf(path), 'client', command(path, work));
      if (code !== 0) throw new Error(`${path}: the load failed: ${output}`);
      return JSON.parse(output) as LoadResult;
    },
    async whileIdle(path, connections, look) {
      const seconds = 6;
      const work: Work = { kind: 'idle', connections, seconds };
      const running = cluster.exec(namespaceOf(path), 'client', command(path, work));
      const [figure] = await Promise.all([idleLook(look), running]);
      return figure;
    },
  };
}

/** Looks when all connections are open and their opening has settled. */
async function idleLook<T>(look: () => T): Promise<T> {
  await new Promise((resolve) => setTimeout(resolve, 5000));
  return look();
}
