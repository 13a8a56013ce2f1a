import type { Socket } from 'node:net';
import type { IpAddress, SocketAddress, Workload } from '@ambit/api';
import { baggageHeader, clientIdentityHeader, parseSpiffeIdentity, proxyMark } from '@ambit/api';
import type { TunnelRequest } from '@ambit/core';
import {
  causeChain,
  connectFd,
  connectSocket,
  copyBothWays,
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
import { baggageOf } from '../outbound/headers.ts';
import type { InboundPlan } from './plan.ts';
import { planPlaintext, planTunnel } from './plan.ts';
import { tellPolicies } from './tell.ts';

type Denied = Extract<InboundPlan, { kind: 'deny' }>;

/** Takes a socket of the HBONE port: waits for the pod's certificate, then shakes hands. */
export async function handleHbone(
  context: ProxyContext,
  proxy: PodProxy,
  socket: Socket,
  accept: (certificate: Awaited<ReturnType<ProxyContext['certificates']['acquire']>>) => void,
): Promise<void> {
  socket.on('error', () => socket.destroy());
  try {
    const identity = identityOfPod(context, proxy);
    const current = context.certificates.current(identity.uri);
    accept(current ?? (await context.certificates.acquire(identity.uri, context.config.waitMs)));
  } catch (error) {
    context.metrics.rejected.inc({ reason: 'no-certificate' });
    context.logger.warn(
      { pod: `${proxy.pod.namespace}/${proxy.pod.name}`, error: causeChain(error) },
      'no certificate to answer with',
    );
    socket.destroy();
  }
}

/** Judges a CONNECT and delivers it to the application. */
export async function handleTunnel(
  context: ProxyContext,
  proxy: PodProxy,
  request: TunnelRequest,
): Promise<void> {
  const source = remoteAddressOf(request.socket);
  const local = localAddressOf(request.socket);
  if (source === undefined || local === undefined) {
    request.refuse(400);
    return;
  }
  const workload = await workloadOfPod(context, proxy);
  if (request.isClosed()) return;
  if (workload === undefined) {
    request.refuse(503);
    context.metrics.rejected.inc({ reason: 'unknown-workload' });
    return;
  }
  const { authority, peer } = request;
  const claimed = parseSpiffeIdentity(request.headers.get(clientIdentityHeader) ?? '');
  const origin = claimed.ok ? { origin: claimed.value } : {};
  const plan = planTunnel(context.state, workload, {
    authority,
    localIp: local.ip,
    sourceIp: source.ip,
    peer,
    ...origin,
  });
  const record: ConnectionRecord = {
    ...inboundRecord(context, proxy, workload, source, plan.kind === 'deliver' ? plan.to : local),
    sourceIdentity: peer.uri,
    destinationIdentity: identityOfPod(context, proxy).uri,
    hboneAddress: authority.slice(0, 300),
    mutualTls: true,
  };
  tellPolicies(context, record, plan);
  if (plan.kind === 'deny') {
    request.refuse(plan.status);
    context.connections.failed(record, flags(plan), plan.message);
    return;
  }
  try {
    const upstream = await deliver(context, proxy, source.ip, plan.to);
    const stream = request.isClosed()
      ? undefined
      : request.accept([[baggageHeader, baggageOf(workload)]]);
    if (stream === undefined) {
      upstream.destroy();
      return;
    }
    const copy = copyBothWays(stream, socketStream(upstream));
    context.connections.track(record, copy, {
      workload,
      sourceIp: source.ip,
      destination: plan.to,
      peer,
      ...origin,
    });
  } catch (error) {
    if (!request.isClosed()) request.refuse(503);
    context.connections.failed(record, 'CONNECT', causeChain(error));
  }
}

/** Judges a captured plain connection and delivers it. */
export async function handlePlaintext(
  context: ProxyContext,
  proxy: PodProxy,
  socket: Socket,
): Promise<void> {
  const downstream = socketStream(socket);
  const source = remoteAddressOf(socket);
  const destination = originalDestination(socket);
  if (source === undefined || destination === undefined) {
    socket.destroy();
    return;
  }
  const workload = await workloadOfPod(context, proxy);
  if (workload === undefined) {
    context.metrics.rejected.inc({ reason: 'unknown-workload' });
    socket.resetAndDestroy();
    return;
  }
  const record = inboundRecord(context, proxy, workload, source, destination);
  const plan = planPlaintext(context.state, { workload, sourceIp: source.ip, destination });
  tellPolicies(context, record, plan);
  if (plan.kind === 'deny') {
    socket.resetAndDestroy();
    context.connections.failed(record, flags(plan), plan.message);
    return;
  }
  try {
    const upstream = await deliver(context, proxy, source.ip, plan.to);
    socket.setKeepAlive(true, keepAliveMs);
    const copy = copyBothWays(downstream, socketStream(upstream));
    context.connections.track(record, copy, { workload, sourceIp: source.ip, destination });
    socket.resume();
  } catch (error) {
    socket.resetAndDestroy();
    context.connections.failed(record, 'CONNECT', causeChain(error));
  }
}

/** Connects to the application as if the client did: with its address, from inside the pod. */
async function deliver(
  context: ProxyContext,
  proxy: PodProxy,
  clientIp: IpAddress,
  to: SocketAddress,
): Promise<Socket> {
  const sameFamily = clientIp.includes(':') === to.ip.includes(':');
  const fd = connectSocket({
    netnsFd: proxy.netns.fd,
    family: to.ip.includes(':') ? 'IPv6' : 'IPv4',
    mark: proxyMark,
    transparent: true,
    ...(sameFamily ? { bind: { ip: clientIp } } : {}),
  });
  const upstream = connectFd(fd, to);
  await connected(upstream, context.config.connectTimeoutMs);
  upstream.setKeepAlive(true, keepAliveMs);
  return upstream;
}

function inboundRecord(
  context: ProxyContext,
  proxy: PodProxy,
  workload: Workload,
  source: SocketAddress,
  destination: SocketAddress,
): ConnectionRecord {
  const [service] = workload.services
    .filter(({ ports }) => ports.some(({ targetPort }) => targetPort === destination.port))
    .map((membership) => context.state.service(membership.service));
  return {
    direction: 'inbound',
    podUid: proxy.pod.uid,
    source,
    sourceWorkload: context.state.workloadByAddress(source.ip),
    sourceIdentity: undefined,
    destination,
    hboneAddress: undefined,
    destinationWorkload: workload,
    destinationIdentity: undefined,
    service,
    mutualTls: false,
  };
}

function flags(plan: Denied): 'DENY' | 'CONNECT' | '-' {
  return plan.flags;
}
