import { execFileSync } from 'node:child_process';
import type { Server, Socket } from 'node:net';
import { readFileSync } from 'node:fs';
import type { IpAddress, Port } from '@ambit/api';
import type { Netns } from '@ambit/core';
import {
  adoptServer,
  connectFd,
  connectSocket,
  inNetns,
  listenSocket,
  openNetns,
  originalDestination,
} from '@ambit/core';

export const ip = (text: string): IpAddress => text as IpAddress;

export function sh(script: string): string {
  return execFileSync('sh', ['-ec', script], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** A pod's namespace on a veth, its node's end in the namespace of the test. */
export interface TestPod {
  readonly name: string;
  readonly path: string;
  readonly ip4: IpAddress;
  readonly ip6: IpAddress;
  readonly netns: Netns;
  close(): void;
}

/** Routed pods, as a ptp plugin makes them: a host route each way, the gateway on the node's end. */
export function makePod(name: string, host: number): TestPod {
  const ip4 = `10.77.0.${host}`;
  const ip6 = `fd00:77::${host.toString(16)}`;
  const link = `v-${name}`.slice(0, 15);
  sh(`
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 || true
    ip netns add ${name}
    for scope in all default; do
      sysctl -qw net.ipv6.conf.$scope.accept_dad=0 net.ipv6.conf.$scope.dad_transmits=0
      ip netns exec ${name} sysctl -qw net.ipv6.conf.$scope.accept_dad=0 net.ipv6.conf.$scope.dad_transmits=0
    done
    ip link add ${link} type veth peer name eth0 netns ${name}
    ip addr add 10.77.0.1/32 dev ${link}; ip -6 addr add fd00:77::1/128 dev ${link} nodad
    ip link set ${link} up; ip route add ${ip4}/32 dev ${link}; ip -6 route add ${ip6}/128 dev ${link}
    ip -n ${name} link set lo up; ip -n ${name} link set eth0 up
    ip -n ${name} addr add ${ip4}/32 dev eth0; ip -n ${name} -6 addr add ${ip6}/128 dev eth0 nodad
    ip -n ${name} route add 10.77.0.1 dev eth0 scope link
    ip -n ${name} route add default via 10.77.0.1 dev eth0 src ${ip4}
    ip -n ${name} -6 route add fd00:77::1 dev eth0
    ip -n ${name} -6 route add default via fd00:77::1 dev eth0 src ${ip6}
  `);
  return podIn(name, link, { ip4, ip6 });
}

/** The pod of a namespace that is there, with its link; closing it removes both. */
export function podIn(
  name: string,
  link: string,
  { ip4, ip6 }: { readonly ip4: string; readonly ip6: string },
): TestPod {
  const path = `/run/netns/${name}`;
  const netns = openNetns(path);
  return {
    name,
    path,
    ip4: ip(ip4),
    ip6: ip(ip6),
    netns,
    close() {
      netns.close();
      sh(`ip netns del ${name}; ip link del ${link} 2>/dev/null || true`);
    },
  };
}

export interface Heard {
  /** Who connected, as the listener sees it. */
  readonly from: string;
  /** What the connection was for, before any redirection. */
  readonly originally: string;
}

/** An echo server in a pod that says its name first and keeps who came. */
export interface Echo {
  readonly heard: Heard[];
  readonly server: Server;
  /** Ends its own side of every connection. */
  halfClose(): void;
  close(): void;
}

export function serveIn(pod: TestPod, port: number, name: string): Echo {
  const heard: Heard[] = [];
  const sockets = new Set<Socket>();
  const fd = listenSocket({ netnsFd: pod.netns.fd, ip: ip('::'), port });
  const server = adoptServer(fd, { allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    const original = originalDestination(socket);
    heard.push({
      from: plain(socket.remoteAddress ?? ''),
      originally: original === undefined ? '' : `${original.ip} ${original.port}`,
    });
    socket.write(`${name}\n`);
    socket.pipe(socket);
  });
  return {
    heard,
    server,
    halfClose() {
      for (const socket of sockets) socket.end();
    },
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '');
}

export interface DialOptions {
  readonly mark?: number;
  readonly from?: IpAddress;
  /** The port to connect from; absent, the kernel chooses one. */
  readonly fromPort?: number | undefined;
}

/** Connects from a pod's namespace (the test's own when absent) and keeps the connection open. */
export class Dialled {
  readonly socket: Socket;
  #text = '';
  #failed: string | undefined;
  #ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (this.#text += chunk));
    socket.on('error', (error: NodeJS.ErrnoException) => (this.#failed = error.code ?? 'error'));
    socket.on('close', () => (this.#ended = true));
  }

  /** The next line, or why there is none: an error's code, `closed`, or `silent` after the time. */
  async line(withinMs = 1500): Promise<string> {
    const until = performance.now() + withinMs;
    for (;;) {
      const end = this.#text.indexOf('\n');
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      if (this.#failed !== undefined) return this.#failed;
      if (this.#ended) return 'closed';
      if (performance.now() > until) return 'silent';
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async echo(text: string): Promise<string> {
    this.socket.write(`${text}\n`);
    return this.line();
  }

  close(): void {
    this.socket.destroy();
  }
}

const home = openNetns('/proc/self/ns/net');

export function dial(
  pod: TestPod | undefined,
  to: IpAddress,
  port: number,
  options: DialOptions = {},
): Dialled {
  const fd = connectSocket({
    netnsFd: (pod?.netns ?? home).fd,
    family: to.includes(':') ? 'IPv6' : 'IPv4',
    mark: options.mark,
    transparent: options.from !== undefined,
    bind:
      options.from === undefined ? undefined : { ip: options.from, port: options.fromPort ?? 0 },
  });
  return new Dialled(connectFd(fd, { ip: to, port: port as Port }));
}

/** Connects, and tells the first line heard or the failure. */
export async function ask(
  pod: TestPod | undefined,
  to: IpAddress,
  port: number,
  options: DialOptions = {},
): Promise<string> {
  const dialled = dial(pod, to, port, options);
  const line = await dialled.line();
  dialled.close();
  return line;
}

export function inPod<T>(pod: TestPod, work: () => T): T {
  return inNetns(pod.netns.fd, work);
}

export function rulesOf(pod: TestPod): string {
  return sh(`ip netns exec ${pod.name} nft list ruleset`);
}

export function readIn(pod: TestPod, path: string): string {
  return inNetns(pod.netns.fd, () => readFileSync(path, 'utf8'));
}
