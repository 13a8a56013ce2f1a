import { readFileSync } from 'node:fs';
import { hbonePort, inboundPlaintextPort, outboundPort } from '@ambit/api';
import type { Netns } from '@ambit/core';
import { inNetns } from '@ambit/core';

const capturePorts = new Set([outboundPort, inboundPlaintextPort, hbonePort]);
/** TCP states of `/proc/net/tcp` in which nobody waits for another packet. */
const atRest = new Set(['06', '07']);

/**
 * True once no connection goes through the proxy in a pod any more, and it listens for none: then its rules can be
 * deleted.
 */
export function isDrained(netns: Netns): boolean {
  const tables = inNetns(netns.fd, () => ['tcp', 'tcp6'].map(readTable));
  return tables.every((table) => !table.some(isCaptured));
}

function readTable(name: string): string[] {
  try {
    return readFileSync(`/proc/thread-self/net/${name}`, 'latin1').split('\n').slice(1);
  } catch {
    // A kernel without IPv6 has no such table.
    return [];
  }
}

function isCaptured(line: string): boolean {
  const [, local = '', , state = ''] = line.trim().split(/\s+/);
  const port = Number.parseInt(local.split(':')[1] ?? '', 16);
  return capturePorts.has(port) && !atRest.has(state);
}
