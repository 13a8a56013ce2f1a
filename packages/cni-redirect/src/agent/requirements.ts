import { readdirSync, readFileSync } from 'node:fs';
import { MeshError, causeChain } from '@ambit/core';
import { checkTools } from '../rules/run.ts';

/** Capabilities by their number in capabilities(7), with what the agent needs them for. */
const needed = [
  { name: 'CAP_NET_ADMIN', bit: 12n, use: 'to write rules and routes' },
  { name: 'CAP_SYS_ADMIN', bit: 21n, use: "to enter pods' network namespaces" },
] as const;

/** Ends the start of an agent that could not do its work on this node, with what is missing and who gives it. */
export async function checkRequirements({
  netnsDir,
}: {
  readonly netnsDir: string;
}): Promise<void> {
  const missing = missingCapabilities(readFileSync('/proc/self/status', 'utf8'));
  if (missing !== undefined) throw new MeshError('agent/not-permitted', missing);
  try {
    readdirSync(netnsDir);
  } catch (error) {
    throw new MeshError(
      'agent/no-netns-dir',
      `${netnsDir} (NETNS_DIR) cannot be read: mount the node's directory of network namespaces there, with mountPropagation HostToContainer: ${causeChain(error)}`,
    );
  }
  await checkTools();
}

/** What a process with this /proc/PID/status lacks; undefined where that is nothing. */
export function missingCapabilities(status: string): string | undefined {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const missing = needed.filter(({ bit }) => ((effective >> bit) & 1n) === 0n);
  if (missing.length === 0) return undefined;
  const list = missing.map(({ name, use }) => `${name} (${use})`).join(' and ');
  return `the agent lacks ${list}: give its container these capabilities, or run it privileged where the platform takes them away`;
}
