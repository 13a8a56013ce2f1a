import { spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { test } from '@jest/globals';
import { capturePackets } from '@ambit/core';
import type { LinkEvidence } from '@ambit/sandbox';
import { examine } from '@ambit/sandbox';

/** Set where the suites run in the network that joins the nodes of e2e/cluster; see scripts/e2e-cluster.mjs. */
export const clusterName = process.env['AMBIT_CLUSTER_NAME'];

/** For what has to look at the network between the nodes, or to change it: skipped in a cluster that is not ours. */
export const ownClusterTest: typeof test.skip = clusterName === undefined ? test.skip : test;

const elsewhere = process.env['KUBECONFIG'] !== undefined && clusterName === undefined;

/** For what kills a program of the cluster as a process of this machine: skipped where the nodes are other machines. */
export const ownMachineTest: typeof test.skip = elsewhere ? test.skip : test;

const hbonePort = 15_008;
const root = fileURLToPath(new URL('../..', import.meta.url));

/** What a node's cable shows of a secret that is sent during `work`. */
export async function onTheWire(
  node: 'node-1' | 'node-2',
  secret: string,
  work: () => Promise<void>,
): Promise<LinkEvidence> {
  const link = node.replace('-', '');
  if (networkInterfaces()['fabric'] === undefined)
    throw new Error('this is not the network that joins the nodes');
  const frames: Buffer[] = [];
  const capture = capturePackets(undefined, link, (frame) => frames.push(frame));
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 200));
  } finally {
    capture.stop();
  }
  return examine(frames, secret, hbonePort);
}

/** A command in the network of a node of e2e/cluster. */
export function ownNode(node: 'node-1' | 'node-2', command: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${clusterName ?? ''}-${node}`, '--', ...command];
}

/** The cluster's own scripts, from the machine's network, in which whoever started these suites is. */
export async function clusterScript(...args: readonly string[]): Promise<void> {
  const command = [process.execPath, join(root, 'scripts/cluster.mjs'), ...args];
  const child = spawn('nsenter', [`--net=/proc/${starter()}/ns/net`, '--', ...command]);
  const [status, out, error] = await Promise.all([
    new Promise<number | null>((resolve, reject) => child.on('exit', resolve).on('error', reject)),
    text(child.stdout),
    text(child.stderr),
  ]);
  if (status !== 0) throw new Error(out + error);
}

/** The nearest ancestor in another network than ours. */
function starter(): number {
  const own = readlinkSync('/proc/self/ns/net');
  for (let pid = process.ppid; pid > 1; pid = parentOf(pid))
    if (readlinkSync(`/proc/${pid}/ns/net`) !== own) return pid;
  throw new Error('these suites were not started from another network');
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
