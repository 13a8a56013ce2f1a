import { networkInterfaces } from 'node:os';
import { test } from '@jest/globals';
import { capturePackets } from '@ambit/core';
import type { LinkEvidence } from '@ambit/sandbox';
import { examine } from '@ambit/sandbox';

/** Set where the suites run in the network that joins the nodes of e2e/cluster; see scripts/e2e-cluster.mjs. */
export const clusterName = process.env['AMBIT_CLUSTER_NAME'];

/** For what has to look at the network between the nodes, or to change it: skipped in a cluster that is not ours. */
export const ownClusterTest: typeof test.skip = clusterName === undefined ? test.skip : test;

const hbonePort = 15_008;

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
