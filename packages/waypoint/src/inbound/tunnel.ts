import type { ByteStream, TunnelRequest } from '@ambit/core';
import type { Service, SocketAddress } from '@ambit/api';
import { parseIp, parsePort } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import { tellMalformed } from '../forward/malformed.ts';
import { serveTcp } from '../forward/tcp.ts';
import type { Http1Limits } from '../http1/limits.ts';
import { Http1ServerConnection } from '../http1/server.ts';
import { targetsOf } from '../policy/judge.ts';
import { serveHttp2 } from '../http2/server.ts';
import type { Sniffed } from './protocol.ts';
import type { InboundPlan } from './plan.ts';
import { keyOf, planInbound } from './plan.ts';
import { serveRequest } from './serve.ts';
import { serverNameOf } from './sni.ts';
import { requestRule, understand } from './understand.ts';

export interface Drainable {
  /** Asks the client to go elsewhere; what is under way goes on. */
  drain(): void;
  /** Ends what has nothing under way. */
  closeIdle(): void;
}

/** Connections of clients that are open now, to be drained. */
export interface OpenConnections {
  add(connection: Drainable): void;
  remove(connection: Drainable): void;
}

const waitMs = 1_000;
/** Bytes of which only the two ends know where one thing is over and the next begins. */
const opaque: Drainable = { drain: () => undefined, closeIdle: () => undefined };

/** Takes a CONNECT of a verified peer: finds whom it is for and serves what comes through it. */
export async function serveTunnel(
  context: WaypointContext,
  request: TunnelRequest,
  limits: Http1Limits,
  open: OpenConnections,
): Promise<void> {
  const source = addressOf(request.socket.remoteAddress, request.socket.remotePort);
  const local = addressOf(request.socket.localAddress, request.socket.localPort);
  const gateway = context.gateway();
  if (source === undefined || local === undefined) {
    request.refuse(400);
    return;
  }
  if (gateway === undefined) {
    context.metrics.rejected('no-gateway');
    request.refuse(503);
    return;
  }
  const look = (): InboundPlan =>
    planInbound(
      context.state,
      (what) => context.bindings.serves(what),
      request.authority,
      request.peer.namespace,
    );
  let plan = look();
  const deadline = performance.now() + waitMs;
  while (plan.kind === 'deny' && plan.status === 404) {
    // The node proxy may know already what has not come to us yet.
    const leftMs = deadline - performance.now();
    if (leftMs <= 0 || request.isClosed()) break;
    await context.bindings.change(leftMs);
    plan = look();
  }
  if (request.isClosed()) return;
  if (plan.kind === 'deny') {
    context.metrics.rejected('not-served');
    context.logger.warn(
      {
        'src.identity': request.peer.uri,
        authority: request.authority.slice(0, 300),
        error: plan.message,
      },
      'tunnel refused',
    );
    request.refuse(plan.status);
    return;
  }
  const service = plan.kind === 'service' ? plan.service : undefined;
  if (!(await namesOf(context, service, request))) return;
  const workload = plan.kind === 'workload' ? plan.workload : undefined;
  const downstream: Downstream = {
    targets: targetsOf({ gateway, service, workload }, context.state),
    peer: request.peer,
    source,
    sourceWorkload: context.state.workloadByAddress(source.ip),
    local,
    authority: request.authority,
    port: plan.port,
    gateway,
    service,
    workload,
  };
  const stream = request.accept([]);
  if (stream === undefined) return;
  begin(context, downstream, stream, limits, open);
}

function begin(
  context: WaypointContext,
  downstream: Downstream,
  stream: ByteStream,
  limits: Http1Limits,
  open: OpenConnections,
): void {
  const { done, giveUp } = understand(context, downstream, stream, limits);
  // Idle, as a connection between two requests.
  const waiting = giveUp && { drain: () => undefined, closeIdle: giveUp };
  if (waiting !== undefined) open.add(waiting);
  void done.then((sniffed) => {
    if (waiting !== undefined) open.remove(waiting);
    const why = sniffed.undeclared && requestRule(context, downstream);
    if (typeof why === 'string' && (sniffed.protocol === 'tcp' || sniffed.protocol === 'tls')) {
      refuseBytes(context, downstream, sniffed.stream, why);
    } else serve(context, downstream, sniffed, limits, open);
  });
}

function refuseBytes(
  { metrics, logger }: WaypointContext,
  { peer, authority, port }: Downstream,
  stream: ByteStream,
  rule: string,
): void {
  metrics.rejected('no-request');
  logger.warn(
    {
      'src.identity': peer.uri,
      authority: authority.slice(0, 300),
      error: `${rule} holds for requests, and this connection carries none; say by the name or appProtocol of port ${port} what it speaks`,
    },
    'connection refused',
  );
  stream.abort(new Error('no request'));
}

/** The first client of a name waits for it to be looked up; false when it did not want to. */
async function namesOf(
  { state, names }: WaypointContext,
  service: Service | undefined,
  request: TunnelRequest,
): Promise<boolean> {
  if (service?.entry === undefined) return true;
  const endpoints = state.endpointsOf(keyOf(service));
  const hostnames = endpoints.flatMap(({ workload }) => workload.hostname ?? []);
  if (hostnames.every((hostname) => names.addressesOf(hostname).length > 0)) return true;
  await Promise.all(hostnames.map((hostname) => names.settled(hostname, waitMs)));
  return !request.isClosed();
}

function serve(
  context: WaypointContext,
  downstream: Downstream,
  { protocol, stream, bytes }: Sniffed,
  limits: Http1Limits,
  open: OpenConnections,
): void {
  switch (protocol) {
    case 'http1': {
      const connection = new Http1ServerConnection(stream, {
        limits,
        onRequest: (exchange) => serveRequest(context, downstream, exchange),
        onMalformed: (error, begun) => {
          if (begun) context.metrics.rejected(error.code);
          else tellMalformed(context, downstream, 'HTTP/1.1', error);
        },
        onClosed: (closed) => open.remove(closed),
      });
      if (!connection.closed) open.add(connection);
      // Nothing came for as long as a connection may be idle.
      if (bytes.length === 0) connection.closeIdle();
      return;
    }
    case 'http2': {
      const connection = serveHttp2(
        stream,
        limits,
        {
          onRequest: (exchange) => serveRequest(context, downstream, exchange),
          onMalformed: (error) => tellMalformed(context, downstream, 'HTTP/2', error),
        },
        (closed) => open.remove(closed),
      );
      if (!connection.closed) open.add(connection);
      return;
    }
    case 'tls':
    case 'tcp': {
      const carried = { ...opaque };
      open.add(carried);
      void serveTcp(context, downstream, stream, sniOf(protocol, bytes)).finally(() =>
        open.remove(carried),
      );
    }
  }
}

function sniOf(protocol: 'tls' | 'tcp', bytes: Buffer): string | undefined {
  if (protocol === 'tcp') return undefined;
  const read = serverNameOf(bytes);
  return read === 'more' ? '' : (read.name ?? '');
}

function addressOf(
  text: string | undefined,
  number: number | undefined,
): SocketAddress | undefined {
  const ip = parseIp(text ?? '');
  const port = parsePort(number ?? 0);
  return ip.ok && port.ok ? { ip: ip.value, port: port.value } : undefined;
}
