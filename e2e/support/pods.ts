import { execFileSync } from 'node:child_process';
import type { Server, Socket } from 'node:net';
import type { IpAddress, SocketAddress } from '@ambit/api';
import { familyOf, parseIp, parsePort } from '@ambit/api';
import { defaultCapture, renderPodRules, renderRemoval } from '@ambit/cni-redirect';
import type { Netns } from '@ambit/core';
import { adoptServer, connectFd, connectSocket, listenSocket, openNetns } from '@ambit/core';

/** A pod: a network namespace on the bridge that all nodes share. */
export interface Pod {
  readonly name: string;
  readonly path: string;
  readonly ip4: IpAddress;
  readonly ip6: IpAddress;
  readonly netns: Netns;
}

const bridge = 'mesh0';
const gateway4 = '10.30.0.1';
const gateway6 = 'fd00:30::1';

export function sh(script: string, input = ''): string {
  return execFileSync('sh', ['-ec', script], {
    encoding: 'utf8',
    input,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

export function ip(text: string): IpAddress {
  const parsed = parseIp(text);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

export function socketAddress(host: string, number: number): SocketAddress {
  const port = parsePort(number);
  if (!port.ok) throw new TypeError(port.error.message);
  return { ip: ip(host), port: port.value };
}

/** The link that joins the pods; anything for elsewhere ends in this namespace's blackhole routes. */
export function makeNetwork(): () => void {
  sh(`
    ip link add ${bridge} type bridge
    ip addr add ${gateway4}/16 dev ${bridge}
    ip -6 addr add ${gateway6}/64 dev ${bridge} nodad
    ip link set ${bridge} up
  `);
  return () => void sh(`ip link del ${bridge}`);
}

export function makePod(name: string, host: number): Pod {
  const ip4 = `10.30.1.${host}`;
  const ip6 = `fd00:30::1:${host.toString(16)}`;
  const link = `v-${name}`.slice(0, 15);
  sh(`
    ip netns add ${name}
    ip link add ${link} type veth peer name eth0 netns ${name}
    ip link set ${link} master ${bridge} up
    ip -n ${name} link set lo up
    ip -n ${name} link set eth0 up
    ip -n ${name} addr add ${ip4}/16 dev eth0
    ip -n ${name} -6 addr add ${ip6}/64 dev eth0 nodad
    ip -n ${name} route add default via ${gateway4}
    ip -n ${name} -6 route add default via ${gateway6}
  `);
  const path = `/run/netns/${name}`;
  return { name, path, ip4: ip(ip4), ip6: ip(ip6), netns: openNetns(path) };
}

export function removePod({ name, netns }: Pod): void {
  netns.close();
  sh(`ip netns del ${name}; ip link del v-${name.slice(0, 13)} 2>/dev/null || true`);
}

/** Puts the agent's own rules into a pod. */
export function capture({ name }: Pod): void {
  const rules = renderPodRules({ ...defaultCapture, families: ['IPv4', 'IPv6'] });
  for (const { family, batch } of rules.routing) {
    const flag = family === 'IPv4' ? '-4' : '-6';
    sh(`ip netns exec ${name} ip ${flag} -force -batch - 2>/dev/null || true`, batch);
  }
  sh(`ip netns exec ${name} nft -f -`, rules.nft);
}

export function release({ name }: Pod): void {
  sh(`ip netns exec ${name} nft -f -`, renderRemoval('drain').nft);
}

/** An application in a pod, and whom it has seen. */
export interface App {
  readonly seen: string[];
  readonly sockets: Set<Socket>;
  close(): void;
}

/** Listens in a pod; by default it says its pod's name and then echoes. */
export function serve(
  pod: Pod,
  port: number,
  onConnection: (socket: Socket) => void = (socket) => {
    socket.write(`${pod.name}\n`);
    socket.pipe(socket);
  },
): App {
  const seen: string[] = [];
  const sockets = new Set<Socket>();
  const fd = listenSocket({ netnsFd: pod.netns.fd, ip: ip('::'), port });
  const server: Server = adoptServer(fd, { allowHalfOpen: true }, (socket) => {
    seen.push((socket.remoteAddress ?? '').replace(/^::ffff:/, ''));
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  return {
    seen,
    sockets,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** A client's connection in a pod, with all that arrived and how it ended. */
export interface Call {
  readonly socket: Socket;
  /** What has arrived so far. */
  readonly text: () => string;
  /** How it ended: `end` in order, or the code of the error. */
  readonly ended: Promise<string>;
  /** Resolves with everything received once `count` characters are there; rejects when it ends before. */
  readonly received: (count: number) => Promise<string>;
}

/** @param fromPort of the pod; chosen by the kernel where it is not given */
export function call(pod: Pod, host: IpAddress, port: number, fromPort?: number): Call {
  const family = familyOf(host);
  const own = family === 'IPv6' ? pod.ip6 : pod.ip4;
  const bind = fromPort === undefined ? {} : { bind: { ip: own, port: fromPort } };
  const fd = connectSocket({ netnsFd: pod.netns.fd, family, ...bind });
  const socket = connectFd(fd, socketAddress(host, port));
  let text = '';
  let code: string | undefined;
  let orderly = false;
  const wake = new Set<() => void>();
  const change = (): void => {
    for (const each of [...wake]) each();
  };
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
    change();
  });
  socket.on('end', () => {
    orderly = true;
    if (!socket.writableEnded) socket.end();
  });
  socket.on('error', (error: NodeJS.ErrnoException) => (code = error.code ?? error.message));
  const ended = new Promise<string>((resolve) => {
    socket.on('close', () => {
      resolve(code ?? (orderly ? 'end' : 'closed'));
      change();
    });
  });
  return {
    socket,
    text: () => text,
    ended,
    received: (count) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (text.length < count && !socket.destroyed) return;
          wake.delete(look);
          if (text.length >= count) resolve(text);
          else reject(new Error(`ended after ${text.length} characters: ${code ?? 'end'}`));
        };
        wake.add(look);
        look();
      }),
  };
}

/** Says something, waits for the echo after the server's name, and closes; gives the name. */
export async function ask(
  pod: Pod,
  host: IpAddress,
  port: number,
  words = 'hello',
): Promise<string> {
  const { socket, received, ended } = call(pod, host, port);
  socket.write(words);
  const name = (await received(words.length + 2)).split('\n')[0] ?? '';
  const text = await received(name.length + 1 + words.length);
  socket.end();
  const how = await ended;
  if (how !== 'end') throw new Error(`ended by ${how}`);
  if (text !== `${name}\n${words}`) throw new Error(`wrong echo: ${text}`);
  return name;
}
