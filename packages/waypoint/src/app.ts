import type { Server } from 'node:net';
import { connect, createServer } from 'node:net';
import type { Gateway, Hostname, IpAddress, SpiffeIdentity } from '@ambit/api';
import { makeSpiffeIdentity, podUid } from '@ambit/api';
import type { AdminServers, Logger, MeshState, Metrics, WorkloadCertificate } from '@ambit/core';
import {
  MeshError,
  createCertificateRequest,
  createCertificateStore,
  isOfRoots,
  listening,
  createHbonePool,
  createHboneServer,
  createMeshState,
  createMetrics,
  createReadiness,
  parseWorkloadCertificate,
  startAdmin,
  startControlClient,
  warmThreadpool,
} from '@ambit/core';
import { createMeshClient } from './client/index.ts';
import { configDump } from './config-dump.ts';
import type { WaypointConfig } from './config.ts';
import type { WaypointContext } from './context.ts';
import { Clusters } from './forward/clusters.ts';
import { ConnectionPool } from './forward/connections.ts';
import { createNames } from './forward/names.ts';
import { createOpenStream } from './forward/open.ts';
import { retireWithCredentials } from './forward/retire.ts';
import { TlsContexts } from './forward/tls-context.ts';
import { createProbe } from './forward/probe.ts';
import type { Http1Limits } from './http1/limits.ts';
import { defaultHttp1Limits } from './http1/limits.ts';
import { Bindings } from './inbound/bindings.ts';
import { WaypointDrain, until } from './inbound/drain.ts';
import { serveTunnel } from './inbound/tunnel.ts';
import type { LineSink } from './observe/access.ts';
import { createClusterObserver } from './observe/cluster-observer.ts';
import { createWaypointMetrics } from './observe/metrics.ts';
import { createTelemetry } from './observe/setup.ts';
import { PolicyCache } from './policy/cache.ts';
import { createJwksSource } from './policy/jwks.ts';
import { KeyWatch } from './policy/key-watch.ts';
import { keyServers } from './policy/key-servers.ts';
import { LiveTraffic } from './policy/live.ts';
import { RateLimiter } from './policy/rate-limit/limiter.ts';
import { createTokenVerifier } from './policy/tokens.ts';
import { RouteIndexes } from './route/indexes.ts';

export interface WaypointDeps {
  readonly logger: Logger;
  readonly access: LineSink;
  readonly metrics?: Metrics;
  readonly quit?: () => void;
  readonly random?: () => number;
  readonly limits?: Http1Limits;
}

export interface Waypoint {
  readonly context: WaypointContext;
  readonly admin: AdminServers;
  readonly port: number;
  readonly ready: boolean;
  /** Drains: no new tunnels, requests under way until the deadline; then closes. */
  stop(): Promise<void>;
}

const version = '0.1.0';
const noAddress = '0.0.0.0' as IpAddress;

/** Builds everything in order and starts it. Throws when a port is taken. */
// eslint-disable-next-line max-lines-per-function -- wiring: each part once, in the order in which it must start
export async function startWaypoint(config: WaypointConfig, deps: WaypointDeps): Promise<Waypoint> {
  await warmThreadpool();
  const { logger, limits = defaultHttp1Limits } = deps;
  const identity = ownIdentity(config);
  const { state, updater } = createMeshState();
  const readiness = createReadiness(() => logger.info('ready'));
  const stateReceived = readiness.register('mesh state from the controller');
  const certificateReceived = readiness.register('certificate');
  const registry = deps.metrics ?? createMetrics({ processFigures: true });
  const metrics = createWaypointMetrics(registry, version);

  let holding = false;
  const control = startControlClient({
    address: config.controller,
    tokenFile: config.tokenFile,
    rootsFile: config.rootsFile,
    program: 'waypoint',
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
      if (what !== 'connected' || holding) return;
      holding = true;
      certificates.hold(identity);
    },
  });
  const certificates = createCertificateStore({
    logger: logger.child({ scope: 'identity' }),
    request: requestCertificate,
    onChange: (certificate) => {
      pool.retire((_key, held) => held !== certificate);
    },
  });
  const pool = createHbonePool({
    dial: ({ nextHop }) =>
      connect({ host: nextHop.ip, port: nextHop.port, allowHalfOpen: true, noDelay: true }),
    certificate: () => certificates.acquire(identity.uri, config.waitMs),
  });
  /** Whom to trust is in each certificate: all of them are made anew when that changes, or who signs. */
  function followRoots(): void {
    const roots = state.mesh()?.roots ?? [];
    certificates.renew((certificate) => !isOfRoots(certificate, roots));
  }
  async function requestCertificate(wanted: SpiffeIdentity): Promise<WorkloadCertificate> {
    const { csrPem, privateKeyPem } = await createCertificateRequest(wanted);
    const signed = await control.requestCertificate(wanted, csrPem);
    const roots = [...new Set([...signed.roots, ...(state.mesh()?.roots ?? [])])];
    const parsed = parseWorkloadCertificate({
      chain: signed.chain,
      privateKey: privateKeyPem,
      roots,
    });
    if (!parsed.ok) throw new MeshError(parsed.error.code, parsed.error.message);
    if (parsed.value.identity.uri !== wanted.uri) {
      throw new MeshError(
        'identity/wrong',
        `asked for ${wanted.uri}, was given ${parsed.value.identity.uri}`,
      );
    }
    certificateReceived();
    return parsed.value;
  }
  const open = createOpenStream({
    pool,
    identity,
    sourceIp: noAddress,
    contexts: new TlsContexts((name) => state.credential(name)),
    certificate: () => certificates.acquire(identity.uri, config.waitMs),
  });
  const uid = podUid(config.clusterId, config.namespace, config.instance);
  const names = createNames({
    isNeeded: (hostname) => isEndpointName(state, hostname),
    onChange: () => clusters.namesChanged(),
  });
  const clusters = new Clusters({
    state,
    own: () => state.workload(uid),
    addressesOf: (hostname) => names.addressesOf(hostname),
    pool: (cluster) => new ConnectionPool(cluster, open, limits),
    observer: createClusterObserver(registry, logger.child({ scope: 'clusters' })),
    probe: createProbe({ open, limits, identity }),
    random: deps.random ?? Math.random,
  });
  retireWithCredentials(state, clusters);
  const gatewayKey = `${config.namespace}/${config.gatewayName}`;
  const gateway = (): Gateway | undefined => state.gateway(gatewayKey);
  const random = deps.random ?? Math.random;
  const bindings = new Bindings(state, gateway);
  const policies = new PolicyCache(state);
  const asking = createMeshClient({ state, clusters, open, identity, random });
  const jwks = createJwksSource({
    ...keyServers({
      ...{ state, bindings, policies, gateway, identity },
      reach: asking.reach,
      ownIp: () => state.workload(uid)?.addresses[0] ?? noAddress,
    }),
    allowed: config.jwksAllowed,
    onFailure: (uri, error, cause) => {
      metrics.rejected('jwks-fetch');
      logger.warn({ uri, error: cause }, 'keys for tokens not fetched; the last good ones hold');
      keyWatch.failed(uri, error);
    },
    onFetched: (uri) => keyWatch.fetched(uri),
  });
  const keyWatch = new KeyWatch({
    state,
    jwks,
    gateway,
    report: (problems) => control.report(problems),
  });
  const telemetry = createTelemetry(config, {
    state,
    metrics,
    logger,
    sink: deps.access,
    http: asking.http,
    random,
  });
  const context: WaypointContext = {
    state,
    bindings,
    clusters,
    names,
    open,
    client: asking,
    routes: new RouteIndexes(),
    policies,
    limiter: new RateLimiter(),
    live: new LiveTraffic(),
    tokens: createTokenVerifier(state, jwks),
    metrics,
    telemetry: telemetry.cache,
    logger,
    gateway,
    identity,
    random,
  };
  state.subscribe((changes) => context.live.changed(changes));
  const drain = new WaypointDrain();
  const hbone = createHboneServer<'tunnel'>({
    trustDomains: () => {
      const mesh = state.mesh();
      return new Set(
        mesh === undefined ? [config.trustDomain] : [mesh.trustDomain, ...mesh.trustDomainAliases],
      );
    },
    onTunnel: (request) => void serveTunnel(context, request, limits, drain),
    onRejected: (code, message) => {
      metrics.rejected(code);
      logger.warn({ code, error: message }, 'peer turned away');
    },
  });
  const listener = await listen(config.hbonePort, (socket) => {
    socket.on('error', () => socket.destroy());
    const current = certificates.current(identity.uri);
    if (current !== undefined) {
      hbone.accept(socket, current, 'tunnel');
      return;
    }
    certificates.acquire(identity.uri, config.waitMs).then(
      (certificate) => hbone.accept(socket, certificate, 'tunnel'),
      () => socket.destroy(),
    );
  });
  const admin = await startAdmin({
    ...config,
    metrics: registry,
    readiness,
    logger,
    configDump: () => configDump(context, control.connected, certificates.view()),
    quit: deps.quit ?? (() => undefined),
  }).catch((error: unknown) => {
    listener.close();
    throw error;
  });
  return {
    context,
    admin,
    port: (listener.address() as { port: number }).port,
    get ready() {
      return readiness.ready;
    },
    async stop() {
      const stopped = readiness.register('the end');
      await drain.run(config, {
        goAway: () => hbone.end(() => true, 'drain'),
        stopListening: () => listener.close(),
        open: () => hbone.connections,
      });
      hbone.end(() => true, 'destroy');
      await telemetry.close();
      await context.client.close();
      await endConnections(clusters);
      clusters.close();
      pool.destroy(() => true);
      context.names.close();
      context.bindings.close();
      keyWatch.close();
      context.tokens.close();
      context.live.close();
      certificates.close();
      control.close();
      await admin.close();
      telemetry.flush();
      stopped();
    },
  };
}

function isEndpointName(state: MeshState, hostname: Hostname): boolean {
  for (const workload of state.workloads()) if (workload.hostname === hostname) return true;
  return false;
}

function ownIdentity({ trustDomain, namespace, serviceAccount }: WaypointConfig): SpiffeIdentity {
  const identity = makeSpiffeIdentity(trustDomain, namespace, serviceAccount);
  if (identity.ok) return identity.value;
  throw new MeshError(identity.error.code, identity.error.message);
}

async function listen(
  port: number,
  accept: (socket: Parameters<Parameters<typeof createServer>[1] & {}>[0]) => void,
): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, accept);
  await listening(server, { port });
  return server;
}

const endingMs = 500;

/** In order, so that no endpoint takes the end of an idle connection for a cut; what does not end in time is cut. */
async function endConnections(clusters: Clusters): Promise<void> {
  for (const { pool } of clusters) pool.close();
  const open = (): number => [...clusters].reduce((sum, { pool }) => sum + pool.connections, 0);
  await until(() => open() === 0, performance.now() + endingMs);
  for (const { pool } of clusters) pool.destroy();
}
