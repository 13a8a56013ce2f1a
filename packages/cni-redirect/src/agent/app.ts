import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger, Metrics } from '@ambit/core';
import { createMetrics, warmThreadpool } from '@ambit/core';
import type { V1Namespace, V1Pod } from '@kubernetes/client-node';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';
import type { Installation } from '../install/install.ts';
import { install } from '../install/install.ts';
import { BootMark } from './boot-mark.ts';
import { Closing } from './closing.ts';
import type { AgentConfig } from './config.ts';
import { decodeNamespace, decodePod } from './kube/decode.ts';
import type { Follower } from './kube/follow.ts';
import { follow } from './kube/follow.ts';
import { checkWriting } from './kube/check-writing.ts';
import { WriteAccess } from './kube/write-access.ts';
import { annotate, fetchPod, recordEvent } from './kube/writes.ts';
import type { StopReason } from './keep.ts';
import { Leave, removeFiles } from './leave.ts';
import { LeftMark } from './left-mark.ts';
import { createObserver } from './observe.ts';
import type { OwnDaemonSet } from './own-daemonset.ts';
import { followOwnDaemonSet } from './own-daemonset.ts';
import { keepTaint } from './node-taint.ts';
import { startPluginServer } from './plugin-server.ts';
import { Pods } from './pods.ts';
import type { Readiness } from './readiness.ts';
import { countPods, createReadiness } from './readiness.ts';
import { PodRecords } from './records.ts';
import { checkRequirements } from './requirements.ts';
import type { ZtunnelServer } from './ztunnel-server.ts';
import { startZtunnelServer } from './ztunnel-server.ts';

/** How long an agent that begins asks whether its mesh is leaving. */
const fateMs = 5_000;

export interface AgentDeps {
  readonly logger: Logger;
  readonly kubeconfig?: KubeConfig;
  /** Ends the start before it is over: what was begun is closed, and the start fails. */
  readonly signal?: AbortSignal;
}

export interface Agent {
  readonly healthAddress: AddressInfo;
  /** A program that ends may be the last of the mesh on its node; one that hands over is not. */
  stop(reason?: StopReason): Promise<void>;
}

/** Starts the node agent: watches, sockets for plugin and ztunnel, then the plugin's installation. */
export async function startAgent(config: AgentConfig, deps: AgentDeps): Promise<Agent> {
  const closing = new Closing();
  try {
    return await start(config, deps, closing);
  } catch (error) {
    await closing.close();
    throw error;
  }
}

async function start(
  config: AgentConfig,
  { logger, kubeconfig, signal }: AgentDeps,
  closing: Closing,
): Promise<Agent> {
  await warmThreadpool();
  await checkRequirements(config);
  const kube = kubeconfig ?? loadKubeconfig(config);
  const core = kube.makeApiClient(CoreV1Api);
  const metrics = createMetrics({ processFigures: true });
  const readiness = createReadiness();
  let count = (): void => undefined;
  const { health, figures } = await serveOwnPorts(config, readiness, () => {
    count();
    return metrics.render();
  });
  closing.add(() => Promise.all([health.close(), figures.close()]));
  let hasLeft = (): boolean => false;
  // From the first moment on: the node may just have been booted.
  const isReady = (): boolean => hasLeft() || readiness.missing() === undefined;
  const taint = startTaint(config, { kube, core, isReady, logger });
  closing.add(() => taint?.close());
  const namespaces = new Map<string, ReadonlyMap<string, string>>();
  const access = new WriteAccess();
  const pods = makePods(config, {
    core,
    metrics,
    namespaces,
    access,
    ztunnel: () => ztunnel,
    logger,
  });
  closing.add(() => pods.close());
  const writing = checkWriting({ core, access, self: config.self, logger });
  closing.add(() => writing.close());
  const namespaceFollower = followNamespaces({ kube, core, namespaces, pods, logger });
  closing.add(() => namespaceFollower.close());
  const ownDaemonSet = followFate(config, kube, logger);
  closing.add(() => ownDaemonSet?.close());
  await unless(signal, namespaceFollower.synced);
  // Before anything is captured: a mesh that is leaving must not come back with an agent that begins.
  await unless(signal, fateIsKnown(ownDaemonSet, logger));
  const leaving = ownDaemonSet?.fate === 'leaving';
  if (leaving) pods.beginLeaving();
  const ztunnel: ZtunnelServer = await serveZtunnel(config, pods, logger);
  closing.add(() => ztunnel.close());
  // What is under way may have to be told to it.
  closing.add(() => pods.close());
  const podFollower = followPods({ kube, core, node: config.node, pods, logger });
  closing.add(() => podFollower.close());
  await unless(signal, podFollower.synced);
  const plugin = await startPluginServer({ path: config.pluginSocket, pods, metrics, logger });
  closing.add(() => plugin.close());
  const mark = new LeftMark({ core, self: config.self, logger });
  await mark.takeBack();
  const installation = await installPlugin(config, leaving, logger);
  closing.add(() => installation.close());
  readiness.of({ ztunnel, installation, access, firstLook: pods.firstLook });
  const sayLeft = (left: boolean): Promise<void> => mark.set(left);
  const leave = new Leave({ installation, pods, sayLeft, leaving, logger });
  hasLeft = () => leave.hasLeft;
  count = countPods(metrics, pods, readiness);
  ownDaemonSet?.onFate((fate) => leave.ask(fate === 'leaving'));
  logger.info({ node: config.node }, 'agent started');
  return {
    healthAddress: health.address,
    async stop(reason = 'ends') {
      if (reason === 'hands-over') readiness.handsOver();
      const quiet = [namespaceFollower, podFollower, taint, writing, ownDaemonSet, installation];
      for (const one of quiet) one?.close();
      // Otherwise rules and listeners stay: pods that are captured go on, and new ones wait for the next agent.
      const isLast = config.removeOnStop && reason === 'ends';
      const forGood = isLast || (ownDaemonSet?.fate === 'leaving' && reason !== 'hands-over');
      await leave.stop(forGood);
      if (reason === 'hands-over' && leave.hasLeft) await mark.takeBack();
      await closing.close();
      if (forGood) removeFiles(config);
    },
  };
}

/** Throws when the signal comes before the promise has settled. */
async function unless<T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  return Promise.race([
    promise,
    once(signal, 'abort').then(() => {
      throw signal.reason;
    }),
  ]);
}

function followFate(
  { daemonSet }: AgentConfig,
  kube: KubeConfig,
  logger: Logger,
): OwnDaemonSet | undefined {
  return daemonSet && followOwnDaemonSet({ ...daemonSet, config: kube, logger });
}

/** Who may not read it goes on, as one whose mesh stays: without the agent no pod of the node would start. */
async function fateIsKnown(set: OwnDaemonSet | undefined, logger: Logger): Promise<void> {
  if (set === undefined) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, fateMs)));
  await Promise.race([set.known, late]);
  clearTimeout(timer);
  if (set.fate === undefined)
    logger.warn('the agent could not read its DaemonSet, and takes it that the mesh stays');
}

function serveZtunnel(config: AgentConfig, pods: Pods, logger: Logger): Promise<ZtunnelServer> {
  return startZtunnelServer({
    path: config.ztunnelSocket,
    pods: () => pods.enrolled(),
    onConnected: () => pods.retryAll(),
    onRefused: ({ uid }) => pods.refused(uid),
    logger,
  });
}

function installPlugin(config: AgentConfig, held: boolean, logger: Logger): Promise<Installation> {
  return install({
    ...config,
    held,
    agentSocket: config.pluginSocketOnHost,
    excludeNamespaces: config.excludedNamespaces,
    logger,
  });
}

interface TaintParts {
  readonly kube: KubeConfig;
  readonly core: CoreV1Api;
  readonly isReady: () => boolean;
  readonly logger: Logger;
}

function startTaint(
  { taintNode, node, stateDir }: AgentConfig,
  { kube, core, isReady, logger }: TaintParts,
): { close(): void } | undefined {
  if (!taintNode) return undefined;
  return keepTaint({ config: kube, core, node, isReady, mark: new BootMark(stateDir), logger });
}

interface PodsParts {
  readonly core: CoreV1Api;
  readonly metrics: Metrics;
  readonly namespaces: Namespaces;
  readonly access: WriteAccess;
  readonly ztunnel: () => ZtunnelServer;
  readonly logger: Logger;
}

function makePods(config: AgentConfig, parts: PodsParts): Pods {
  const { core, metrics, namespaces, access, ztunnel, logger } = parts;
  return new Pods({
    ...config,
    records: new PodRecords(config.stateDir),
    ztunnel,
    namespaceLabels: (name) => namespaces.get(name) ?? new Map(),
    fetchPod: (namespace, name) => fetchPod(core, config.node, namespace, name),
    annotate: (pod, enabled) => access.tried(pod.uid, () => annotate(core, pod, enabled)),
    observer: createObserver({
      logger,
      metrics,
      record: (pod, reason, message) => recordEvent(core, config.node, pod, { reason, message }),
      onGone: ({ uid }) => access.forget(uid),
    }),
    logger,
  });
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
  readiness: Readiness,
  render: () => Promise<string>,
): Promise<{ readonly health: Served; readonly figures: Served }> {
  const health = await serve(config.healthPort, (url) => {
    if (url.pathname === '/healthz') return [200, 'ok\n'];
    if (url.pathname !== '/readyz') return [404, 'GET /readyz\n'];
    const reason = readiness.missing() ?? otherThan(config.self.name, url.searchParams.get('pod'));
    return reason === undefined ? [200, 'ready\n'] : [503, `${reason}\n`];
  });
  const figures = await serve(config.metricsPort, async ({ pathname }) =>
    pathname === '/metrics' ? [200, await render()] : [404, 'GET /metrics\n'],
  );
  return { health, figures };
}

/** The ports are the node's: who asks for one pod's agent is told when they are those of another. */
function otherThan(self: string | undefined, asked: string | null): string | undefined {
  if (asked === null || self === undefined || asked === self) return undefined;
  return `${self} has this node, and ${asked} has not taken it over; its log says why`;
}

/** As the configuration says; of the pod where it says nothing. */
export function loadKubeconfig({ kubeconfig }: Pick<AgentConfig, 'kubeconfig'>): KubeConfig {
  const kube = new KubeConfig();
  if (kubeconfig === undefined) kube.loadFromCluster();
  else kube.loadFromFile(kubeconfig);
  return kube;
}

type Answer = readonly [status: number, text: string];

async function serve(
  port: number,
  route: (url: URL) => Answer | Promise<Answer>,
): Promise<{ readonly address: AddressInfo; close(): Promise<void> }> {
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    const url = URL.parse(request.url ?? '', 'http://agent') ?? new URL('http://agent');
    void Promise.resolve(route(url)).then(([status, text]) => {
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
