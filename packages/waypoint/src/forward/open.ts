import type { Socket } from 'node:net';
import { connect } from 'node:net';
import type { SecureContext } from 'node:tls';
import type { IpAddress, SpiffeIdentity, TcpKeepalive, UpstreamTls } from '@ambit/api';
import { clientIdentityHeader, hbonePort, makeSpiffeIdentity, parsePort } from '@ambit/api';
import type { ByteStream, HbonePool, WorkloadCertificate } from '@ambit/core';
import {
  DirectReads,
  MeshError,
  duplexOf,
  secureContextOf,
  socketStream,
  tlsStream,
} from '@ambit/core';
import type { Configured, EndpointHost, OpenStream, Opened } from './endpoint.ts';
import { headerFor } from './proxy-header.ts';
import { startTls } from './tls-client.ts';
import type { TlsContexts } from './tls-context.ts';
import { planTls } from './tls-plan.ts';

export interface OpenOptions {
  readonly pool: HbonePool;
  readonly identity: SpiffeIdentity;
  /** Our own address of the family of the endpoint's; only names the session. */
  readonly sourceIp: IpAddress;
  readonly contexts: TlsContexts;
  readonly certificate: () => Promise<WorkloadCertificate>;
}

const fixedPort = parsePort(hbonePort);
if (!fixedPort.ok) throw new TypeError(fixedPort.error.message);
const port = fixedPort.value;

/**
 * Opens a stream to an endpoint: a tunnel to a workload of the mesh, whose node proxy is told for whom, plain TCP to
 * anything else. In either of them come, where they are asked for, the PROXY protocol's header and then TLS.
 */
export function createOpenStream(options: OpenOptions): OpenStream {
  return async (host, asked, cluster) => {
    const { tls, pool, proxyProtocol } = cluster.settings;
    if (tls?.mode === 'broken') throw new MeshError('tls/broken', tls.why);
    const tunnelled = inMesh(host);
    const secured = endToEnd(tls, tunnelled);
    const deadline = performance.now() + pool.connectTimeoutMs;
    // What is wrong with certificates is found before anybody is called.
    const context = secured && (await contextFor(options, secured));
    const transport = tunnelled
      ? await tunnel(options, host, asked.client.peer.uri, pool.connectTimeoutMs)
      : await plain(host, cluster, pool.connectTimeoutMs, secured === undefined);
    if (proxyProtocol !== undefined) transport.write(headerFor(proxyProtocol, asked.client));
    if (secured === undefined || context === undefined) return opened(transport);
    return encrypted(transport, context, {
      plan: planTls(secured, asked, host, cluster),
      leftMs: deadline - performance.now(),
      pool,
    });
  };
}

type Originated = Exclude<UpstreamTls, { readonly mode: 'disable' | 'broken' }>;

/** The TLS that is to reach the endpoint itself; a tunnel is the mesh's own already. */
function endToEnd(tls: UpstreamTls | undefined, tunnelled: boolean): Originated | undefined {
  if (tls === undefined || tls.mode === 'disable' || tls.mode === 'broken') return undefined;
  return tls.mode === 'istio-mutual' && tunnelled ? undefined : tls;
}

async function contextFor(
  { contexts, certificate }: OpenOptions,
  tls: Originated,
): Promise<SecureContext> {
  return tls.mode === 'istio-mutual'
    ? secureContextOf(await certificate())
    : contexts.contextOf(tls);
}

export function inMesh({ workload, address }: EndpointHost): boolean {
  if (workload.tunnel !== 'hbone') return false;
  const { mode, ports } = workload.mtls;
  return (ports.find((one) => one.port === address.port)?.mode ?? mode) !== 'DISABLE';
}

type Transport =
  | { readonly kind: 'tunnel'; readonly stream: ByteStream; write(bytes: Buffer): void }
  | {
      readonly kind: 'socket';
      readonly socket: Socket;
      readonly reads: DirectReads | undefined;
      write(bytes: Buffer): void;
    };

async function tunnel(
  { pool, identity, sourceIp }: OpenOptions,
  { workload, address }: EndpointHost,
  client: string,
  timeoutMs: number,
): Promise<Transport> {
  const { trustDomain, namespace, serviceAccount } = workload;
  const expected = makeSpiffeIdentity(trustDomain, namespace, serviceAccount);
  if (!expected.ok) throw new MeshError(expected.error.code, expected.error.message);
  const { stream } = await pool.connect(
    {
      source: identity,
      sourceIp,
      nextHop: { ip: address.ip, port },
      expected: new Set([expected.value.uri]),
    },
    {
      authority: { kind: 'address', ...address },
      headers: [[clientIdentityHeader, client]],
      timeoutMs,
    },
  );
  return { kind: 'tunnel', stream, write: (bytes) => void stream.write(bytes) };
}

function plain(
  { address }: EndpointHost,
  { settings }: Configured,
  timeoutMs: number,
  isBare: boolean,
): Promise<Transport> {
  return new Promise((resolve, reject) => {
    // TLS reads the socket itself.
    const reads = isBare ? new DirectReads() : undefined;
    const socket = connect({
      host: address.ip,
      port: address.port,
      allowHalfOpen: true,
      noDelay: true,
      ...(reads === undefined ? {} : { onread: reads.options }),
    });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new MeshError('net/connect-timeout', `no connection in ${timeoutMs} ms`));
    }, timeoutMs);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      socket.on('error', () => undefined);
      keepAlive(socket, settings.pool.keepalive);
      resolve({ kind: 'socket', socket, reads, write: (bytes) => void socket.write(bytes) });
    });
  });
}

/** Linux's own where a part is absent: two hours of silence, then nine probes at 75 seconds. */
function keepAlive(socket: Socket, settings: TcpKeepalive | undefined): void {
  if (settings === undefined) return;
  socket.setKeepAlive(
    true,
    settings.timeMs ?? 7_200_000,
    settings.intervalMs ?? 75_000,
    settings.probes ?? 9,
  );
}

function opened(transport: Transport): Opened {
  const stream =
    transport.kind === 'tunnel'
      ? transport.stream
      : socketStream(transport.socket, transport.reads);
  return { stream, alpn: undefined };
}

async function encrypted(
  transport: Transport,
  context: SecureContext,
  how: {
    readonly plan: Parameters<typeof startTls>[2];
    readonly leftMs: number;
    readonly pool: Configured['settings']['pool'];
  },
): Promise<Opened> {
  const under = transport.kind === 'tunnel' ? duplexOf(transport.stream) : transport.socket;
  under.on('error', () => undefined);
  const timing = { late: false };
  const timer = setTimeout(
    () => {
      timing.late = true;
      under.destroy(new Error('too late'));
    },
    Math.max(1, how.leftMs),
  );
  try {
    const socket = await startTls(under, context, how.plan);
    const alpn = socket.alpnProtocol;
    return { stream: tlsStream(socket), alpn: typeof alpn === 'string' ? alpn : undefined };
  } catch (error) {
    under.destroy();
    if (!timing.late) throw error;
    const { connectTimeoutMs } = how.pool;
    throw new MeshError('tls/timeout', `TLS_error: no handshake in ${connectTimeoutMs} ms`);
  } finally {
    clearTimeout(timer);
  }
}
