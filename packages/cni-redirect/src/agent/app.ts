import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { redirectionAnnotation } from '@ambit/api';
import type { Logger, Metrics } from '@ambit/core';
import { createMetrics, warmThreadpool } from '@ambit/core';
import type { V1Namespace, V1Pod } from '@kubernetes/client-node';
import { CoreV1Api, KubeConfig, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { install } from '../install/install.ts';
import { renderNodeRemoval } from '../rules/node.ts';
import { checkTools, runOnNode } from '../rules/run.ts';
import type { AgentConfig } from './config.ts';
import type { PodFacts } from './enrol.ts';
import { decodeNamespace, decodePod } from './kube/decode.ts';
import type { Follower } from './kube/follow.ts';
import { follow } from './kube/follow.ts';
import { startPluginServer } from './plugin-server.ts';
import { Pods } from './pods.ts';
import { PodRecords } from './records.ts';
import type { ZtunnelServer } from './ztunnel-server.ts';
import { startZtunnelServer } from './ztunnel-server.ts';

export interface AgentDeps {
  readonly logger: Logger;
  readonly kubeconfig?: KubeConfig;
}

export interface Agent {
  readonly healthAddress: AddressInfo;
  stop(): Promise<void>;
}

/** Starts the node agent: watches, sockets for plugin and ztunnel, then the plugin's installation. */
export async function startAgent(
  config: AgentConfig,
  { logger, kubeconfig }: AgentDeps,
): Promise<Agent> {
  await warmThreadpool();
  await checkTools();
  const kube = kubeconfig ?? loadKubeconfig(config);
  const core = kube.makeApiClient(CoreV1Api);
  const metrics = createMetrics({ processFigures: true });
  const namespaces = new Map<string, ReadonlyMap<string, string>>();
  const pods = new Pods({
    ...config,
    records: new PodRecords(config.stateDir),
    ztunnel: () => ztunnel,
    namespaceLabels: (name) => namespaces.get(name) ?? new Map(),
    fetchPod: (namespace, name) => fetchPod(core, config.node, namespace, name),
    annotate: (pod, enabled) => annotate(core, pod, enabled),
    logger,
  });
  const namespaceFollower = followNamespaces({ kube, core, namespaces, pods, logger });
  await namespaceFollower.synced;
  const ztunnel: ZtunnelServer = await startZtunnelServer({
    path: config.ztunnelSocket,
    pods: () => pods.enrolled(),
    onConnected: () => pods.retryAll(),
    logger,
  });
  const podFollower = followPods({ kube, core, node: config.node, pods, logger });
  await podFollower.synced;
  const requests = metrics.counter(
    'istio_cni_plugin_requests_total',
    'Calls of the CNI plugin, by answer.',
    ['response_code'],
  );
  const plugin = await startPluginServer({ path: config.pluginSocket, pods, requests, logger });
  const installation = await install({
    ...config,
    agentSocket: config.pluginSocketOnHost,
    excludeNamespaces: config.excludedNamespaces,
    logger,
  });
  const missing = (): string | undefined =>
    ztunnel.connected ? installation.missing : 'no ztunnel is connected on this node';
  const { health, figures } = await serveOwnPorts(config, metrics, missing);
  logger.info({ node: config.node }, 'agent started');
  return {
    healthAddress: health.address,
    async stop() {
      namespaceFollower.close();
      podFollower.close();
      installation.close();
      // Rules and listeners stay: pods that are captured go on, and new ones wait for the next agent.
      if (config.removeOnStop) {
        await installation.uninstall();
        await runOnNode(renderNodeRemoval());
      }
      await plugin.close();
      await pods.close();
      await ztunnel.close();
      await health.close();
      await figures.close();
    },
  };
}

interface Sources {
  readonly kube: KubeConfig;
  readonly core: CoreV1Api;
  readonly pods: Pods;
  readonly logger: Logger;
}

type Namespaces = Map<string, ReadonlyMap<string, string>>;

function followNamespaces(sources: Sources & { readonly namespaces: Namespaces }): Follower {
  const { kube, core, namespaces, pods, logger } = sources;
  return follow<V1Namespace>({
    config: kube,
    path: '/api/v1/namespaces',
    query: {},
    list: () => core.listNamespace(),
    onList: (objects) => {
      namespaces.clear();
      for (const { name, labels } of objects.map(decodeNamespace)) namespaces.set(name, labels);
      pods.retryAll();
    },
    onChange: (object) => {
      const { name, labels } = decodeNamespace(object);
      namespaces.set(name, labels);
      pods.namespaceChanged(name);
    },
    onDelete: (object) => void namespaces.delete(decodeNamespace(object).name),
    logger,
  });
}

function followPods(sources: Sources & { readonly node: string }): Follower {
  const { kube, core, node, pods, logger } = sources;
  const fieldSelector = `spec.nodeName=${node}`;
  return follow<V1Pod>({
    config: kube,
    path: '/api/v1/pods',
    query: { fieldSelector },
    list: () => core.listPodForAllNamespaces({ fieldSelector }),
    onList: (objects) => pods.replace(objects.map(decodePod)),
    onChange: (object) => pods.seen(decodePod(object)),
    onDelete: (object) => pods.gone(decodePod(object)),
    logger,
  });
}

type Served = Awaited<ReturnType<typeof serve>>;

async function serveOwnPorts(
  config: AgentConfig,
  metrics: Metrics,
  missing: () => string | undefined,
): Promise<{ readonly health: Served; readonly figures: Served }> {
  const health = await serve(config.healthPort, (path) => {
    if (path === '/healthz') return [200, 'ok\n'];
    if (path !== '/readyz') return [404, 'GET /readyz\n'];
    const reason = missing();
    return reason === undefined ? [200, 'ready\n'] : [503, `${reason}\n`];
  });
  const figures = await serve(config.metricsPort, async (path) =>
    path === '/metrics' ? [200, await metrics.render()] : [404, 'GET /metrics\n'],
  );
  return { health, figures };
}

function loadKubeconfig({ kubeconfig }: AgentConfig): KubeConfig {
  const kube = new KubeConfig();
  if (kubeconfig === undefined) kube.loadFromCluster();
  else kube.loadFromFile(kubeconfig);
  return kube;
}

async function fetchPod(
  core: CoreV1Api,
  node: string,
  namespace: string,
  name: string,
): Promise<PodFacts | undefined> {
  try {
    const pod = await core.readNamespacedPod({ namespace, name });
    return pod.spec?.nodeName === node ? decodePod(pod) : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function annotate(core: CoreV1Api, pod: PodFacts, enabled: boolean): Promise<void> {
  const body = {
    metadata: {
      uid: pod.uid,
      annotations: { [redirectionAnnotation]: enabled ? 'enabled' : null },
    },
  };
  try {
    await core.patchNamespacedPod(
      { namespace: pod.namespace, name: pod.name, body },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

function isMissing(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 404;
}

type Answer = readonly [status: number, text: string];

async function serve(
  port: number,
  route: (path: string) => Answer | Promise<Answer>,
): Promise<{ readonly address: AddressInfo; close(): Promise<void> }> {
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    void Promise.resolve(route(request.url ?? '')).then(([status, text]) => {
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(text);
    });
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, resolve);
  });
  return {
    address: server.address() as AddressInfo,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
