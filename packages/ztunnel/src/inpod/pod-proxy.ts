import type { Server, Socket } from 'node:net';
import type { EnrolledPod, IpAddress } from '@ambit/api';
import { hbonePort, inboundPlaintextPort, outboundPort, parseIp } from '@ambit/api';
import type { Netns } from '@ambit/core';
import {
  MeshError,
  adoptServer,
  errnoCode,
  leaveNewConnections,
  listenSocket,
  openNetns,
} from '@ambit/core';

/** Who takes the connections that a pod's listeners accept. */
export interface PodConnectionHandlers {
  outbound(proxy: PodProxy, socket: Socket): void;
  plaintext(proxy: PodProxy, socket: Socket): void;
  hbone(proxy: PodProxy, socket: Socket): void;
}

/** The listeners in one pod's network namespace. */
export class PodProxy {
  readonly pod: EnrolledPod;
  readonly netns: Netns;
  readonly #servers: Server[] = [];
  #state: 'listening' | 'released' | 'closed' = 'listening';

  private constructor(pod: EnrolledPod, netns: Netns) {
    this.pod = pod;
    this.netns = netns;
  }

  /** Opens the namespace, checks that it is the one that was meant, and listens in it. */
  static start(pod: EnrolledPod, handlers: PodConnectionHandlers): PodProxy {
    const netns = openNetns(pod.netns.path);
    const proxy = new PodProxy(pod, netns);
    try {
      if (netns.inode !== pod.netns.inode) {
        throw new MeshError(
          'inpod/wrong-netns',
          `${pod.netns.path} is another network namespace than that of pod ${pod.namespace}/${pod.name}`,
        );
      }
      proxy.#listen(outboundPort, (socket) => handlers.outbound(proxy, socket));
      proxy.#listen(inboundPlaintextPort, (socket) => handlers.plaintext(proxy, socket));
      proxy.#listen(hbonePort, (socket) => handlers.hbone(proxy, socket));
      return proxy;
    } catch (error) {
      proxy.close();
      throw error;
    }
  }

  get state(): 'listening' | 'released' | 'closed' {
    return this.#state;
  }

  /** Leaves new connections to a ztunnel that listens in the same pod; takes them still where there is none. */
  giveWay(): void {
    for (const server of this.#servers) leaveNewConnections(server);
  }

  /** Takes no new connections; sockets for those that are open can still be made. */
  release(): void {
    if (this.#state !== 'listening') return;
    this.#state = 'released';
    for (const server of this.#servers.splice(0)) server.close();
  }

  close(): void {
    this.release();
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.netns.close();
  }

  #listen(port: number, onConnection: (socket: Socket) => void): void {
    const server = adoptServer(
      this.#bind(port),
      { allowHalfOpen: true, noDelay: true, pauseOnConnect: true },
      onConnection,
    );
    server.on('error', () => server.close());
    this.#servers.push(server);
  }

  #bind(port: number): number {
    try {
      return this.#bindTo(anyIpv6, port);
    } catch (error) {
      const code = errnoCode(error);
      // A kernel, or a pod, without IPv6.
      if (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL') return this.#bindTo(anyIpv4, port);
      throw new MeshError(
        'inpod/cannot-listen',
        `cannot listen on port ${port} in pod ${this.pod.namespace}/${this.pod.name}: ${String(code)}`,
        { cause: error },
      );
    }
  }

  #bindTo(ip: IpAddress, port: number): number {
    // The ztunnel that takes over on this node listens beside the one that goes.
    return listenSocket({ netnsFd: this.netns.fd, ip, port, transparent: true, reusePort: true });
  }
}

const anyIpv6 = address('::');
const anyIpv4 = address('0.0.0.0');

function address(text: string): IpAddress {
  const ip = parseIp(text);
  if (!ip.ok) throw new TypeError(ip.error.message);
  return ip.value;
}
