import type { Socket } from 'node:net';
import type { SocketAddress, SpiffeIdentity, Workload } from '@ambit/api';
import { makeSpiffeIdentity, parseIp, parsePort, podUid } from '@ambit/api';
import type { CertificateStore, HbonePool, Logger, MeshState } from '@ambit/core';
import { Deadline, MeshError } from '@ambit/core';
import type { ZtunnelConfig } from './config.ts';
import type { Connections } from './connections.ts';
import type { PodProxy } from './inpod/pod-proxy.ts';
import type { ZtunnelMetrics } from './metrics.ts';
import type { UnreachableHops } from './outbound/unreachable.ts';

/** What both directions share. */
export interface ProxyContext {
  readonly config: ZtunnelConfig;
  readonly state: MeshState;
  readonly certificates: CertificateStore;
  readonly pool: HbonePool;
  readonly connections: Connections;
  readonly unreachable: UnreachableHops;
  readonly metrics: ZtunnelMetrics;
  readonly logger: Logger;
}

export const keepAliveMs = 180_000;

/** The address of a socket's other side; undefined where it was reset before it was accepted. */
export function remoteAddressOf(socket: Socket): SocketAddress | undefined {
  return addressOf(socket.remoteAddress, socket.remotePort);
}

export function localAddressOf(socket: Socket): SocketAddress | undefined {
  return addressOf(socket.localAddress, socket.localPort);
}

function addressOf(
  text: string | undefined,
  number: number | undefined,
): SocketAddress | undefined {
  const ip = parseIp(text ?? '');
  const port = parsePort(number ?? 0);
  return ip.ok && port.ok ? { ip: ip.value, port: port.value } : undefined;
}

export function identityOfPod(context: ProxyContext, { pod }: PodProxy): SpiffeIdentity {
  const trustDomain = context.state.mesh()?.trustDomain ?? context.config.trustDomain;
  const identity = makeSpiffeIdentity(trustDomain, pod.namespace, pod.serviceAccount);
  if (identity.ok) return identity.value;
  throw new MeshError(
    'identity/not-a-name',
    `pod ${pod.namespace}/${pod.name}: ${identity.error.message}`,
  );
}

/** The workload of a pod, once the controller has told of it; waits a while for that. */
export async function workloadOfPod(
  context: ProxyContext,
  { pod }: PodProxy,
): Promise<Workload | undefined> {
  const find = (): Workload | undefined => {
    if (!context.state.complete) return undefined;
    return context.state.workload(podUid(context.config.clusterId, pod.namespace, pod.name));
  };
  const known = find();
  if (known !== undefined) return known;
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle(undefined), context.config.waitMs);
    const unsubscribe = context.state.subscribe(() => {
      const workload = find();
      if (workload !== undefined) settle(workload);
    });
    const settle = (workload: Workload | undefined): void => {
      clearTimeout(timer);
      unsubscribe();
      resolve(workload);
    };
  });
}

/** Waits until a connecting socket is connected. */
export function connected(socket: Socket, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const deadline = new Deadline(() => {
      socket.destroy();
      settle(new MeshError('net/connect-timeout', `no connection in ${timeoutMs} ms`));
    }, timeoutMs);
    const onError = (error: Error): void => settle(error);
    const onConnect = (): void => settle();
    const settle = (error?: Error): void => {
      deadline.clear();
      socket.off('connect', onConnect);
      if (error === undefined) {
        socket.off('error', onError);
        resolve();
      } else {
        reject(error);
      }
    };
    socket.once('connect', onConnect);
    socket.once('error', onError);
  });
}
