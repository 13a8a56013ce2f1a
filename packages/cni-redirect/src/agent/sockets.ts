import { readFileSync } from 'node:fs';
import type { IpAddress, SocketAddress } from '@ambit/api';
import {
  formatSocketAddress,
  hbonePort,
  inboundPlaintextPort,
  ipOfBytes,
  outboundPort,
  parsePort,
} from '@ambit/api';
import type { ConnectionStage, Netns, OpenConnection } from '@ambit/core';
import { inNetns } from '@ambit/core';

const capturePorts = [outboundPort, inboundPlaintextPort, hbonePort];
/** TCP states of `/proc/net/tcp` in which nobody waits for another packet. */
const atRest = new Set(['06', '07']);
const stages: ReadonlyMap<string, ConnectionStage> = new Map([
  ['01', 'established'],
  ['04', 'fin-wait'],
  ['05', 'close-wait'],
  ['08', 'close-wait'],
  ['09', 'last-ack'],
  ['0B', 'last-ack'],
]);
const listening = '0A';

interface SocketLine {
  /** As the kernel writes them: the address in words of the machine's order, the port in hexadecimal. */
  readonly local: string;
  readonly peer: string;
  readonly port: number;
  readonly state: string;
}

/**
 * True once no connection goes through the proxy in a pod any more, and it listens for none: then its rules can be
 * deleted.
 */
export function isDrained(netns: Netns): boolean {
  return !socketsIn(netns).some(({ port, state }) => isCapturePort(port) && !atRest.has(state));
}

/** The connections that the programs of a pod with these addresses have with others, but for those of the proxy. */
export function connectionsIn(netns: Netns, addresses: readonly IpAddress[]): OpenConnection[] {
  const sockets = socketsIn(netns);
  const served = portsServed(sockets);
  return sockets.flatMap((socket) => {
    const stage = stages.get(socket.state);
    if (stage === undefined || isCapturePort(socket.port)) return [];
    const side = sideOf(socket);
    if (side === undefined) return [];
    const { own, other } = side;
    // The proxy has the addresses of clients.
    if (!addresses.includes(own.ip) || addresses.includes(other.ip)) return [];
    return served.has(socket.port)
      ? [{ client: other, server: own, stage }]
      : [{ client: own, server: other, stage }];
  });
}

/** True while a pod has one of these connections, each as its own side sees it. */
export function hasOneOf(netns: Netns, sides: readonly Side[]): boolean {
  if (sides.length === 0) return false;
  const keys = new Set(sides.map(keyOf));
  return socketsIn(netns).some((socket) => {
    const side = atRest.has(socket.state) ? undefined : sideOf(socket);
    return side !== undefined && keys.has(keyOf(side));
  });
}

export interface Side {
  readonly own: SocketAddress;
  readonly other: SocketAddress;
}

/** True while ztunnel listens in a pod, on every port that the pod's rules redirect to. */
export function isListening(netns: Netns): boolean {
  const ports = portsServed(socketsIn(netns));
  return capturePorts.every((port) => ports.has(port));
}

/** True of a port on which the proxy listens in pods. */
export function isCapturePort(port: number): boolean {
  return capturePorts.some((one) => one === port);
}

function portsServed(sockets: readonly SocketLine[]): ReadonlySet<number> {
  return new Set(sockets.flatMap(({ port, state }) => (state === listening ? [port] : [])));
}

function socketsIn(netns: Netns): SocketLine[] {
  return inNetns(netns.fd, () => ['tcp', 'tcp6'].flatMap(readTable)).map(readLine);
}

function readTable(name: string): string[] {
  try {
    return readFileSync(`/proc/thread-self/net/${name}`, 'latin1').split('\n').slice(1);
  } catch {
    // A kernel without IPv6 has no such table.
    return [];
  }
}

function readLine(line: string): SocketLine {
  const [, local = '', peer = '', state = ''] = line.trim().split(/\s+/);
  return { local, peer, port: portOf(local), state };
}

/** Undefined of a socket that only listens: it has no other side. */
function sideOf({ local, peer }: SocketLine): Side | undefined {
  const [own, other] = [decodeAddress(local), decodeAddress(peer)];
  return own === undefined || other === undefined ? undefined : { own, other };
}

function keyOf({ own, other }: Side): string {
  return `${formatSocketAddress(own)} ${formatSocketAddress(other)}`;
}

function decodeAddress(text: string): SocketAddress | undefined {
  const bytes = Buffer.from(text.split(':')[0] ?? '', 'hex');
  const ip = ipOfBytes(bytes.swap32());
  const port = parsePort(portOf(text));
  return ip !== undefined && port.ok ? { ip, port: port.value } : undefined;
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}
