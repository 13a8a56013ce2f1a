import type { Socket } from 'node:net';
import type { SocketAddress, Workload } from '@ambit/api';
import { formatSocketAddress, outboundPort, proxyMark } from '@ambit/api';
import type { ByteStream } from '@ambit/core';
import {
  TunnelRefused,
  causeChain,
  connectFd,
  connectSocket,
  copyBothWays,
  errnoCode,
  originalDestination,
  socketStream,
} from '@ambit/core';
import type { ConnectionRecord } from '../connections.ts';
import type { ProxyContext } from '../context.ts';
import {
  connected,
  identityOfPod,
  keepAliveMs,
  localAddressOf,
  remoteAddressOf,
  workloadOfPod,
} from '../context.ts';
import type { PodProxy } from '../inpod/pod-proxy.ts';
import type { ResponseFlags } from '../metrics.ts';
import { tunnelHeaders } from './headers.ts';
import type { OutboundPlan } from './plan.ts';
import { planOutbound } from './plan.ts';

type Proceed = Exclude<OutboundPlan, { kind: 'refuse' }>;

/** Carries a captured outbound connection to where its plan says. */
export async function handleOutbound(
  context: ProxyContext,
  proxy: PodProxy,
  socket: Socket,
): Promise<void> {
  const downstream = socketStream(socket);
  const client = remoteAddressOf(socket);
  const original = originalDestination(socket);
  if (client === undefined || original === undefined) {
    socket.destroy();
    return;
  }
  const { pod } = proxy;
  if (isListenerItself(socket, original)) {
    refuseUnnamed(context, socket, 'call to the outbound listener itself');
    return;
  }
  const source = await workloadOfPod(context, proxy);
  if (source === undefined) {
    refuseUnnamed(context, socket, `pod ${pod.namespace}/${pod.name} is not known to the mesh yet`);
    return;
  }
  const plan = planNow(context, source, original);
  const record = recordOf(context, proxy, source, { client, original }, plan);
  if (plan.kind === 'refuse') {
    socket.resetAndDestroy();
    context.connections.failed(record, 'CONNECT', plan.message);
    return;
  }
  if (context.connections.countOf(pod.uid) >= context.config.maxConnectionsPerPod) {
    socket.resetAndDestroy();
    context.connections.failed(
      record,
      'CONNECT',
      `pod has ${context.config.maxConnectionsPerPod} open connections`,
    );
    return;
  }
  let tried: Proceed = plan;
  const recorded = (): ConnectionRecord =>
    tried === plan ? record : recordOf(context, proxy, source, { client, original }, tried);
  try {
    const upstream = await openAny(context, { proxy, source, client, original }, plan, (next) => {
      tried = next;
    });
    socket.setKeepAlive(true, keepAliveMs);
    context.connections.track(recorded(), copyBothWays(downstream, upstream));
    socket.resume();
  } catch (error) {
    socket.resetAndDestroy();
    context.connections.failed(recorded(), flagsOf(error), causeChain(error));
  }
}

function planNow(context: ProxyContext, source: Workload, original: SocketAddress): OutboundPlan {
  const nowMs = performance.now();
  return planOutbound(context.state, source, original, Math.random, (hop) =>
    context.unreachable.has(hop, nowMs),
  );
}

const maxAttempts = 3;

interface Caller {
  readonly proxy: PodProxy;
  readonly source: Workload;
  readonly client: SocketAddress;
  readonly original: SocketAddress;
}

/**
 * Opens what the plan says. A tunnel that did not come about has carried nothing, so another endpoint may be tried:
 * one that is going away must not cost a connection that came before the news of it.
 */
async function openAny(
  context: ProxyContext,
  { proxy, source, client, original }: Caller,
  first: Proceed,
  trying: (plan: Proceed) => void,
): Promise<ByteStream> {
  const deadline = performance.now() + context.config.connectTimeoutMs;
  for (let plan = first, attempt = 1; ; attempt += 1) {
    try {
      return await open(context, proxy, source, client, plan);
    } catch (error) {
      if (plan.kind !== 'hbone' || attempt >= maxAttempts || !neverOpened(error)) throw error;
      const nowMs = performance.now();
      context.unreachable.note(plan.nextHop, nowMs);
      const next = planNow(context, source, original);
      if (next.kind !== 'hbone' || nowMs > deadline) throw error;
      // The same hop once more only where it was an old session that broke.
      const same = formatSocketAddress(next.nextHop) === formatSocketAddress(plan.nextHop);
      if (same && errnoCode(error) !== 'http2/connection-lost') throw error;
      plan = next;
      trying(plan);
    }
  }
}

/** A peer of another identity, or one that said no, is no reason to ask around. */
function neverOpened(error: unknown): boolean {
  return /^(?:hbone|http2)\//.test(errnoCode(error) ?? '') && !(error instanceof TunnelRefused);
}

/** Nothing redirected this connection: somebody in the pod called the listener, and dialling on would loop for ever. */
function isListenerItself(socket: Socket, original: SocketAddress): boolean {
  const local = localAddressOf(socket);
  return original.port === outboundPort && (local === undefined || local.ip === original.ip);
}

async function open(
  context: ProxyContext,
  proxy: PodProxy,
  source: Workload,
  client: SocketAddress,
  plan: Proceed,
): Promise<ByteStream> {
  const timeoutMs = context.config.connectTimeoutMs;
  if (plan.kind === 'passthrough') {
    const upstream = dial(proxy, plan.actualDestination);
    await connected(upstream, timeoutMs);
    upstream.setKeepAlive(true, keepAliveMs);
    return socketStream(upstream);
  }
  const identity = identityOfPod(context, proxy);
  const tunnel = await context.pool.connect(
    {
      source: identity,
      sourceIp: client.ip,
      nextHop: plan.nextHop,
      expected: plan.expectedIdentities,
    },
    { authority: plan.authority, headers: tunnelHeaders(source, client, plan.service), timeoutMs },
  );
  return tunnel.stream;
}

/** A socket of the pod, marked so that the pod's rules let it out. */
export function dial(proxy: PodProxy, to: SocketAddress): Socket {
  const fd = connectSocket({
    netnsFd: proxy.netns.fd,
    family: to.ip.includes(':') ? 'IPv6' : 'IPv4',
    mark: proxyMark,
  });
  return connectFd(fd, to);
}

function recordOf(
  context: ProxyContext,
  proxy: PodProxy,
  source: Workload,
  { client, original }: { readonly client: SocketAddress; readonly original: SocketAddress },
  plan: OutboundPlan,
): ConnectionRecord {
  const tunnelled = plan.kind === 'hbone';
  const [expected] = tunnelled ? plan.expectedIdentities : [];
  return {
    direction: 'outbound',
    podUid: proxy.pod.uid,
    source: client,
    sourceWorkload: source,
    sourceIdentity: tunnelled ? identityOfPod(context, proxy).uri : undefined,
    destination: tunnelled
      ? plan.nextHop
      : plan.kind === 'passthrough'
        ? plan.actualDestination
        : original,
    hboneAddress: tunnelled ? formatSocketAddress(plan.actualDestination) : undefined,
    destinationWorkload: plan.destination,
    destinationIdentity: expected,
    service: plan.service,
    mutualTls: tunnelled,
  };
}

function refuseUnnamed(context: ProxyContext, socket: Socket, reason: string): void {
  context.metrics.rejected.inc({ reason: 'outbound' });
  context.logger.warn(
    { 'src.addr': socket.remoteAddress, direction: 'outbound', error: reason },
    'connection refused',
  );
  socket.resetAndDestroy();
}

function flagsOf(error: unknown): ResponseFlags {
  const code = errnoCode(error) ?? '';
  if (error instanceof TunnelRefused) return error.status === 401 ? 'DENY' : 'CONNECT';
  if (code.startsWith('tls/') || code === 'hbone/tls-failed') return 'TLS_FAILURE';
  if (code.startsWith('identity/')) return 'IDENTITY_ERROR';
  return code === 'http2/protocol' ? 'H2_HANDSHAKE_FAILURE' : 'CONNECT';
}
