import type { IncomingHttpHeaders, IncomingMessage, RequestListener, Server } from 'node:http';
import { createServer, request as httpRequest } from 'node:http';
import type { Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Upsert } from '@ambit/api';
import {
  decodeCluster,
  decodeGateway,
  decodeRouteTable,
  parseIp,
  parsePort,
  parseTrustDomain,
} from '@ambit/api';
import type { ClientSession, Metrics } from '@ambit/core';
import { connectSession, createLogger, createMetrics, duplexOf } from '@ambit/core';
import type { FakeController, FakeControllerOptions, TestCa } from '@ambit/testkit';
import {
  aMesh,
  aPolicy,
  aService,
  aWorkload,
  decoded,
  makeTestCa,
  startFakeController,
  upserts,
} from '@ambit/testkit';
import type { WaypointConfig } from '../src/config.ts';
import type { Http1Limits } from '../src/http1/limits.ts';
import type { Waypoint } from '../src/index.ts';
import { startWaypoint } from '../src/index.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly bytes: Buffer;
}

export interface Asking {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string;
  /** Service account of the caller. */
  readonly as?: string;
  readonly authority?: string;
  /** The body is sent this much later than the head. */
  readonly bodyAfterMs?: number;
  /** The client leaves. */
  readonly abortAfterMs?: number;
}

/** A backend: a plain HTTP server on an address of loopback, an endpoint of service `shop`. */
export interface Backend {
  readonly name: string;
  readonly requests: IncomingMessage[];
  readonly server: Server;
  readonly ip: string;
  readonly port: number;
  close(): Promise<void>;
}

/** A whole waypoint on real sockets: controller, mutual TLS, tunnels, backends. */
export interface WaypointWorld {
  readonly ca: TestCa;
  readonly controller: FakeController;
  readonly waypoint: Waypoint;
  readonly access: string[];
  readonly log: string[];
  readonly metrics: Metrics;
  session(as?: string): Promise<ClientSession>;
  ask(asking?: Asking): Promise<Answer>;
  /** A tunnel to the shop's virtual address. */
  tunnel(port: number, as?: string): Promise<Duplex>;
  tell(nouns: Nouns): Promise<void>;
  close(): Promise<void>;
}

export interface Nouns {
  readonly workloads?: readonly Record<string, unknown>[];
  readonly services?: readonly Record<string, unknown>[];
  readonly policies?: readonly Record<string, unknown>[];
  readonly routes?: readonly Record<string, unknown>[];
  readonly clusters?: readonly Record<string, unknown>[];
  readonly more?: readonly Upsert[];
}

export interface WorldOptions {
  readonly limits?: Http1Limits;
  /** Signs the certificates of the waypoint in the place of the world's own authority. */
  readonly sign?: (
    request: Parameters<NonNullable<FakeControllerOptions['sign']>>[0],
    ca: TestCa,
  ) => ReturnType<NonNullable<FakeControllerOptions['sign']>>;
}

export const shopKey = 'test/shop.test.svc.cluster.local';
export const waypointKey = 'test/waypoint.test.svc.cluster.local';
export const vip = '10.96.0.1';

let version = 0;

export const bound = { waypoint: { kind: 'service', service: waypointKey, port: 15008 } };

export function shopService(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return { name: 'shop', vips: [vip], ...bound, ...fields };
}

let nextHost = 10;

/** Answers `path` with so many blocks as its reader takes them, and everything else in a word. */
export function startStreamingBackend(
  name: string,
  path: string,
  { block, count }: { readonly block: Buffer; readonly count: number },
): Promise<Backend> {
  return startBackend(name, (request, response) => {
    request.resume();
    response.on('error', () => undefined);
    if (request.url !== path) {
      response.end('fine');
      return;
    }
    let left = count;
    const more = (): void => {
      while (left > 0) {
        left -= 1;
        if (response.write(block)) continue;
        response.once('drain', more);
        return;
      }
      response.end();
    };
    more();
  });
}

export async function startBackend(name: string, answer?: RequestListener): Promise<Backend> {
  nextHost += 1;
  const ip = `127.0.0.${nextHost}`;
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    if (answer !== undefined) {
      answer(request, response);
      return;
    }
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      response.setHeader('x-backend', name);
      response.end(
        `${name} ${request.method ?? ''} ${request.url ?? ''} ${Buffer.concat(chunks).toString()}`,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, ip, resolve));
  return {
    name,
    requests,
    server,
    ip,
    port: (server.address() as AddressInfo).port,
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

export function endpointOf(
  backend: Backend,
  labels: Record<string, string> = {},
  fields: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    name: backend.name,
    addresses: [backend.ip],
    tunnel: 'none',
    labels: Object.entries(labels),
    services: [
      { service: shopKey, ready: true, ports: [{ servicePort: 80, targetPort: backend.port }] },
    ],
    ...fields,
  };
}

export async function startWorld(
  nouns: Nouns,
  { limits, sign, ...config }: Partial<WaypointConfig> & WorldOptions = {},
): Promise<WaypointWorld> {
  const ca = await makeTestCa();
  const controller = await startFakeController({
    ca,
    ...(sign === undefined ? {} : { sign: (request) => sign(request, ca) }),
  });
  const trustDomain = parseTrustDomain('cluster.local');
  const controlPort = parsePort(controller.port);
  if (!trustDomain.ok || !controlPort.ok) throw new TypeError('no trust domain or port');
  const access: string[] = [];
  const log: string[] = [];
  const metrics = createMetrics({ processFigures: false });
  const tell = async (told: Nouns): Promise<void> => {
    version += 1;
    const named = (type: Upsert['type'], name: string, resource: unknown): Upsert =>
      ({ type, name, resource, version: `v${version}` }) as Upsert;
    await controller.push([
      ...upserts({
        workloads: (told.workloads ?? []).map(aWorkload),
        services: (told.services ?? []).map(aService),
        policies: (told.policies ?? []).map(aPolicy),
      }).map((upsert): Upsert => ({ ...upsert, version: `v${version}` as Upsert['version'] })),
      ...(told.routes ?? []).map((one) => {
        const table = decoded(decodeRouteTable, { http: [], tls: [], tcp: [], ...one });
        return named('route', table.service, table);
      }),
      ...(told.clusters ?? []).map((one) => {
        const cluster = decoded(decodeCluster, one);
        return named('cluster', cluster.service, cluster);
      }),
      ...(told.more ?? []),
    ]);
  };
  const gateway = decoded(decodeGateway, {
    name: 'waypoint',
    namespace: 'test',
    className: 'istio-waypoint',
    waypointFor: 'service',
    identity: 'spiffe://cluster.local/ns/test/sa/waypoint',
    service: waypointKey,
    xfccClientIdentity: true,
    trustedForwarders: [],
  });
  const version0 = 'v0' as Upsert['version'];
  await controller.push([
    { type: 'mesh', name: 'default', version: version0, resource: aMesh({ roots: [ca.rootPem] }) },
    { type: 'gateway', name: 'test/waypoint', version: version0, resource: gateway },
  ]);
  await tell(nouns);
  const waypoint = await startWaypoint(
    {
      gatewayName: 'waypoint',
      namespace: 'test',
      serviceAccount: 'waypoint',
      instance: 'waypoint-1',
      node: 'node-1',
      clusterId: 'Kubernetes',
      trustDomain: trustDomain.value,
      controller: { host: '127.0.0.1', port: controlPort.value },
      tokenFile: controller.tokenFile,
      rootsFile: controller.rootsFile,
      hbonePort: 0,
      adminPort: 0,
      metricsPort: 0,
      readinessPort: 0,
      logLevel: 'debug',
      logFormat: 'text',
      preDrainMs: 0,
      jwksAllowed: [],
      drainMs: 1000,
      ...config,
      connectTimeoutMs: 1000,
      waitMs: 2000,
      environment: (name) => (name === 'ZONE' ? 'zone-1' : undefined),
    },
    {
      logger: createLogger({
        scope: 'waypoint',
        level: 'debug',
        format: 'json',
        sink: { write: (line) => void log.push(line) },
      }),
      access: { write: (lines) => access.push(...lines.trimEnd().split('\n')) },
      metrics,
      ...(limits === undefined ? {} : { limits }),
    },
  );
  await controller.settled(1);
  while (!waypoint.ready) await new Promise((resolve) => setTimeout(resolve, 5));
  const sessions = new Map<string, Promise<ClientSession>>();
  const session = (as = 'client'): Promise<ClientSession> => {
    let made = sessions.get(as);
    if (made === undefined) {
      made = openSession(ca, waypoint.port, as);
      sessions.set(as, made);
    }
    return made;
  };
  return {
    ca,
    controller,
    waypoint,
    access,
    log,
    metrics,
    session,
    ask: async (asking = {}) => ask(await session(asking.as), asking),
    tunnel: async (to, as) => openTunnel(await session(as), to),
    tell,
    async close() {
      for (const made of sessions.values()) (await made).session.destroy();
      await waypoint.stop();
      await controller.close();
    },
  };
}

/** A session of a client whose certificate is from this authority; `roots` are those that it trusts. */
export async function openSession(
  ca: TestCa,
  port: number,
  as: string,
  roots: readonly string[] = [ca.rootPem],
): Promise<ClientSession> {
  return connectSession({
    socket: connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true }),
    certificate: await ca.certificate(`spiffe://cluster.local/ns/test/sa/${as}`, { roots }),
    expected: {
      kind: 'identities',
      identities: new Set(['spiffe://cluster.local/ns/test/sa/waypoint' as never]),
    },
  });
}

export async function openTunnel(session: ClientSession, number: number): Promise<Duplex> {
  const ip = parseIp(vip);
  const port = parsePort(number);
  if (!ip.ok || !port.ok) throw new TypeError('no address');
  const { stream } = await session.openTunnel({
    authority: { kind: 'address', ip: ip.value, port: port.value },
    headers: [],
    timeoutMs: 15_000,
  });
  return duplexOf(stream);
}

/** One request in a tunnel of its own, by Node's own client. */
export async function ask(session: ClientSession, asking: Asking): Promise<Answer> {
  const stream = await openTunnel(session, 80);
  return new Promise((resolve, reject) => {
    const call = httpRequest(
      {
        createConnection: () => stream,
        method: asking.method ?? 'GET',
        path: asking.path ?? '/',
        headers: { host: asking.authority ?? 'shop.test', ...asking.headers },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString(),
            bytes: Buffer.concat(chunks),
          }),
        );
      },
    );
    call.on('error', reject);
    const { bodyAfterMs = 0, abortAfterMs } = asking;
    if (bodyAfterMs === 0) call.end(asking.body);
    else {
      call.flushHeaders();
      setTimeout(() => call.end(asking.body), bodyAfterMs);
    }
    if (abortAfterMs !== undefined) setTimeout(() => call.destroy(), abortAfterMs);
  });
}

/** A waypoint whose port 80 leads to an endpoint of HTTP/1.1 and whose port 81 leads to one of HTTP/2 on `ip`. */
export async function startWorldOfBoth(
  plain: Backend,
  http2: Http2Server,
  ip: string,
): Promise<WaypointWorld> {
  await new Promise<void>((resolve) => http2.listen(0, ip, resolve));
  const { port } = http2.address() as AddressInfo;
  const services = [
    { service: shopKey, ready: true, ports: [{ servicePort: 81, targetPort: port }] },
  ];
  return startWorld({
    services: [
      shopService({
        ports: [
          { name: 'http', port: 80, appProtocol: '' },
          { name: 'grpc', port: 81, appProtocol: '' },
        ],
      }),
    ],
    workloads: [
      endpointOf(plain),
      endpointOf({ ...plain, name: 'http2', ip, port }, {}, { services }),
    ],
  });
}
