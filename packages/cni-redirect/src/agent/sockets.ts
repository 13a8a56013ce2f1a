import { readFileSync } from 'node:fs';
import { hbonePort, inboundPlaintextPort, outboundPort } from '@ambit/api';
import type { Netns } from '@ambit/core';
import { inNetns } from '@ambit/core';
import type { TranslatedPorts } from '../rules/run.ts';

const capturePorts = [outboundPort, inboundPlaintextPort, hbonePort];
/** TCP states of `/proc/net/tcp` in which nobody waits for another packet. */
const atRest = new Set(['06', '07']);
const listening = '0A';

interface SocketLine {
  readonly port: number;
  readonly peerPort: number;
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
    ({ port, peerPort, state }) => asked.has(`${peerPort} ${port}`) && !atRest.has(state),
  );
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
  return { port: portOf(local), peerPort: portOf(peer), state };
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}
