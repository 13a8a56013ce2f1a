import { readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import type { SocketAddress } from '@ambit/api';
import { hbonePort, inboundPlaintextPort, ipOfBytes, outboundPort, parsePort } from '@ambit/api';
import type { ConnectionStage, Netns, OpenConnection } from '@ambit/core';
import { inNetns } from '@ambit/core';
import type { TranslatedPorts } from '../rules/run.ts';

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
  return !socketsIn(netns).some(
    ({ port, state }) => capturePorts.some((own) => own === port) && !atRest.has(state),
  );
}

/** True while one of these connections of the pod goes on. */
export function hasOneOf(netns: Netns, connections: readonly TranslatedPorts[]): boolean {
  if (connections.length === 0) return false;
  const asked = new Set(connections.map(({ client, own }) => `${client} ${own}`));
  return socketsIn(netns).some(
    ({ port, peer, state }) => asked.has(`${portOf(peer)} ${port}`) && !atRest.has(state),
  );
}

/** The open connections of a pod's programs with others. */
export function connectionsIn(netns: Netns): OpenConnection[] {
  const sockets = socketsIn(netns);
  const served = new Set(sockets.flatMap(({ port, state }) => (state === listening ? [port] : [])));
  return sockets.flatMap(({ local, peer, port, state }) => {
    const stage = stages.get(state);
    if (stage === undefined) return [];
    const [own, other] = [decodeAddress(local), decodeAddress(peer)];
    if (own === undefined || other === undefined || own.ip === other.ip) return [];
    return served.has(port)
      ? [{ client: other, server: own, stage }]
      : [{ client: own, server: other, stage }];
  });
}

/** True while ztunnel listens in a pod, on every port that the pod's rules redirect to. */
export function isListening(netns: Netns): boolean {
  const ports = new Set(
    socketsIn(netns).flatMap(({ port, state }) => (state === listening ? [port] : [])),
  );
  return capturePorts.every((port) => ports.has(port));
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

function decodeAddress(text: string): SocketAddress | undefined {
  const bytes = Buffer.from(text.split(':')[0] ?? '', 'hex');
  const ip = ipOfBytes(endianness() === 'LE' ? bytes.swap32() : bytes);
  const port = parsePort(portOf(text));
  return ip !== undefined && port.ok ? { ip, port: port.value } : undefined;
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}
