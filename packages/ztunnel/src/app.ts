import type { SpiffeIdentity } from '@ambit/api';
import { makeSpiffeIdentity } from '@ambit/api';
import type {
  AdminServers,
  CertificateStore,
  HbonePool,
  HboneServer,
  Logger,
  Metrics,
  WorkloadCertificate,
} from '@ambit/core';
import {
  MeshError,
  createCertificateRequest,
  createCertificateStore,
  isOfRoots,
  createHbonePool,
  createHboneServer,
  createMeshState,
  createMetrics,
  createReadiness,
  createStateKeeper,
  parseWorkloadCertificate,
  startAdmin,
  startControlClient,
  warmThreadpool,
} from '@ambit/core';
import { configDump } from './config-dump.ts';
import type { ZtunnelConfig } from './config.ts';
import { Connections } from './connections.ts';
import type { ProxyContext } from './context.ts';
import { drain } from './drain/drain.ts';
import { handleHbone, handlePlaintext, handleTunnel } from './inbound/connect.ts';
import { planDelivery, planPlaintext } from './inbound/plan.ts';
import { startAgentClient } from './inpod/agent-client.ts';
import type { PodConnectionHandlers, PodProxy } from './inpod/pod-proxy.ts';
import { PodProxies } from './inpod/pod-proxies.ts';
import { createZtunnelMetrics } from './metrics.ts';
import { dial, handleOutbound } from './outbound/connect.ts';
import { UnreachableHops } from './outbound/unreachable.ts';

export interface ZtunnelDeps {
  readonly logger: Logger;
  /** Where the access log goes; the logger itself by default. */
  readonly access?: Logger;
  readonly metrics?: Metrics;
  readonly quit?: () => void;
}

export interface Ztunnel {
  readonly context: ProxyContext;
  readonly pods: PodProxies;
  readonly admin: AdminServers;
  readonly ready: boolean;
  /** Drains: no new connections, open ones until the deadline; then closes. */
  stop(): Promise<void>;
}

const version = '0.1.0';
/** Longer than a handshake within a cluster takes: what was on its way to a listener is accepted before it closes. */
const giveWayMs = 250;

/** Builds everything in order and starts it. Throws when a port is taken. */
// eslint-disable-next-line max-lines-per-function -- wiring: each part once, in the order in which it must start
export async function startZtunnel(config: ZtunnelConfig, deps: ZtunnelDeps): Promise<Ztunnel> {
  await warmThreadpool();
  const { logger } = deps;
  const { state, updater } = createMeshState();
  const readiness = createReadiness(() => logger.info('ready'));
  const stateReceived = readiness.register('mesh state from the controller');
  const podsReceived = readiness.register('pods from the node agent');
  const registry = deps.metrics ?? createMetrics({ processFigures: true });
  const metrics = createZtunnelMetrics(registry, version, () => pods.size);
  const connections = new Connections(metrics, deps.access ?? logger.child({ scope: 'access' }));

  const proxyOf = new Map<string, PodProxy>();
  const pool: HbonePool = createHbonePool({
    dial: (key) => {
      // The newest: an address may come from a pod that has just gone.
      const proxy = [...proxyOf.values()].findLast(({ pod }) =>
        pod.addresses.includes(key.sourceIp),
      );
      if (proxy === undefined)
        throw new MeshError('inpod/gone', `no pod with address ${key.sourceIp} is here any more`);
      return dial(proxy, key.nextHop);
    },
    certificate: (identity) => certificates.acquire(identity.uri, config.waitMs),
  });
  const keeper = await createStateKeeper({
    file: config.stateFile,
    state,
    updater,
    holds: (identity) => certificates.view().some((held) => held.identity === identity),
    logger: logger.child({ scope: 'state' }),
  });
  const control = startControlClient({
    address: config.controller,
    tokenFile: config.tokenFile,
    rootsFile: config.rootsFile,
    program: 'ztunnel',
    node: config.node,
    instance: config.instance,
    logger: logger.child({ scope: 'control' }),
    held: () => state.held(),
    onUpdate: (update) => {
      updater.apply(update);
      if (update.upserts.some(({ type }) => type === 'mesh')) followRoots();
      if (update.complete) stateReceived();
    },
    onConnection: (what) => {
      if (what === 'lost') metrics.terminations.inc({ reason: 'lost' });
      if (what === 'unreachable') {
        if (keeper.restore()) stateReceived();
      } else {
        keeper.contact(what);
      }
    },
  });
  const certificates: CertificateStore = createCertificateStore({
    logger: logger.child({ scope: 'identity' }),
    request: async (identity) => {
      const saved = keeper.certificate(identity, 'fresh');
      if (saved !== undefined) return saved;
      try {
        return await requestCertificate(identity);
      } catch (error) {
        const valid = keeper.certificate(identity, 'valid');
        if (valid === undefined) throw error;
        return valid;
      }
    },
    onChange: (certificate) => {
      // New tunnels use the new certificate; those that are open keep theirs.
      pool.retire(
        (key, held) => key.source.uri === certificate.identity.uri && held !== certificate,
      );
    },
  });
  /** Whom to trust is in each certificate: all of them are made anew when that changes, or who signs. */
  function followRoots(): void {
    const roots = state.mesh()?.roots ?? [];
    certificates.renew((certificate) => !isOfRoots(certificate, roots));
  }
  async function requestCertificate(identity: SpiffeIdentity): Promise<WorkloadCertificate> {
    const { csrPem, privateKeyPem } = await createCertificateRequest(identity);
    const signed = await control.requestCertificate(identity, csrPem);
    const roots = [...new Set([...signed.roots, ...(state.mesh()?.roots ?? [])])];
    const parts = { chain: signed.chain, privateKey: privateKeyPem, roots };
    const parsed = parseWorkloadCertificate(parts);
    if (!parsed.ok) throw new MeshError(parsed.error.code, parsed.error.message);
    if (parsed.value.identity.uri !== identity.uri) {
      throw new MeshError(
        'identity/wrong',
        `asked for ${identity.uri}, was given ${parsed.value.identity.uri}`,
      );
    }
    keeper.remember(identity, parts);
    return parsed.value;
  }

  const context: ProxyContext = {
    config,
    state,
    certificates,
    pool,
    connections,
    unreachable: new UnreachableHops(),
    metrics,
    logger,
  };
  const hbone: HboneServer<PodProxy> = createHboneServer<PodProxy>({
    trustDomains: () => {
      const mesh = state.mesh();
      return new Set(
        mesh === undefined ? [config.trustDomain] : [mesh.trustDomain, ...mesh.trustDomainAliases],
      );
    },
    onTunnel: (request, proxy) => void handleTunnel(context, proxy, request),
    onRejected: (code, message, proxy) => {
      metrics.rejected.inc({ reason: code });
      logger.warn(
        { pod: `${proxy.pod.namespace}/${proxy.pod.name}`, code, error: message },
        'peer turned away',
      );
    },
  });
  const handlers: PodConnectionHandlers = {
    outbound: (proxy, socket) => void handleOutbound(context, proxy, socket),
    plaintext: (proxy, socket) => void handlePlaintext(context, proxy, socket),
    hbone: (proxy, socket) =>
      void handleHbone(context, proxy, socket, (certificate) => {
        hbone.accept(socket, certificate, proxy);
        socket.resume();
      }),
  };
  const pods = new PodProxies({
    handlers,
    logger,
    lingerMs: config.releaseLingerMs,
    started: (proxy) => {
      proxyOf.set(proxy.pod.uid, proxy);
      metrics.proxiesStarted.inc({});
      certificates.hold(identityOf(config, proxy));
    },
    stopped: (proxy, why) => {
      if (proxyOf.get(proxy.pod.uid) === proxy) proxyOf.delete(proxy.pod.uid);
      metrics.proxiesStopped.inc({});
      certificates.release(identityOf(config, proxy));
      hbone.end((other) => other === proxy, why === 'deleted' ? 'destroy' : 'drain');
      if (why === 'deleted') {
        connections.abort(
          ({ record }) => record.podUid === proxy.pod.uid,
          new Error('the pod is gone'),
        );
        pool.destroy((key) => proxy.pod.addresses.includes(key.sourceIp));
      } else {
        pool.retire((key) => proxy.pod.addresses.includes(key.sourceIp));
      }
    },
  });
  state.subscribe(() => judgeAgain(context));
  const agent = startAgentClient(
    config.agentSocket,
    config.instance,
    {
      add: (pod) => pods.add(pod),
      remove: (uid, why) => pods.remove(uid, why),
      complete: async (uids) => {
        await pods.keepOnly(uids);
        podsReceived();
      },
    },
    logger.child({ scope: 'inpod' }),
  );
  const admin = await startAdmin({
    ...config,
    metrics: registry,
    readiness,
    logger,
    configDump: () => configDump(context, pods, control.connected, agent.connected),
    quit: deps.quit ?? (() => undefined),
  });
  return {
    context,
    pods,
    admin,
    get ready() {
      return readiness.ready;
    },
    async stop() {
      const stopped = readiness.register('the end');
      agent.close();
      pods.giveWayAll();
      await new Promise((resolve) => setTimeout(resolve, giveWayMs));
      pods.releaseAll();
      hbone.end(() => true, 'drain');
      pool.retire(() => true);
      await drain(connections, config.drainMs, (uid) => pods.has(uid));
      connections.abort(() => true, new Error('the proxy is stopping'));
      hbone.end(() => true, 'destroy');
      pool.destroy(() => true);
      pods.closeAll();
      await keeper.close();
      certificates.close();
      control.close();
      await admin.close();
      stopped();
    },
  };
}

function identityOf(config: ZtunnelConfig, { pod }: PodProxy): SpiffeIdentity {
  const identity = makeSpiffeIdentity(config.trustDomain, pod.namespace, pod.serviceAccount);
  if (identity.ok) return identity.value;
  throw new MeshError(
    identity.error.code,
    `pod ${pod.namespace}/${pod.name}: ${identity.error.message}`,
  );
}

/** Every change of the mesh's state judges the open inbound connections again; those that no longer may are cut. */
function judgeAgain(context: ProxyContext): void {
  for (const { facts, copy, record } of context.connections.list()) {
    if (facts === undefined) continue;
    const workload = context.state.workload(facts.workload.uid);
    if (workload === undefined) continue;
    const now = { ...facts, workload };
    const plan =
      facts.peer === undefined
        ? planPlaintext(context.state, now)
        : planDelivery(context.state, now);
    if (plan.kind === 'deliver') continue;
    context.connections.failed(record, 'DENY', `no longer allowed: ${plan.message}`);
    copy.abort(new MeshError('policy/late-rejection', plan.message));
  }
}
