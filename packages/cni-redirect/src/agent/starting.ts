import type { IpAddress } from '@ambit/api';
import { MeshError } from '@ambit/core';
import type { PodFacts } from './enrol.ts';
import type { FirstLook } from './first-look.ts';

/** What the plugin tells of a pod that starts. */
export interface StartingPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Path of its network namespace as the host names it. */
  readonly netns: string;
  /** Number of that namespace; undefined where the plugin could not tell. */
  readonly netnsInode: string | undefined;
  readonly addresses: readonly IpAddress[];
}

/** The pod as the API server knows it. Throws when that is another one, or none. */
export async function factsOf(
  { namespace, name, uid }: StartingPod,
  fetchPod: (namespace: string, name: string) => Promise<PodFacts | undefined>,
): Promise<PodFacts> {
  const facts = await fetchPod(namespace, name);
  if (facts === undefined)
    throw new MeshError(
      'agent/unknown-pod',
      `the API server knows no pod ${namespace}/${name} on this node`,
    );
  if (uid !== '' && facts.uid !== uid)
    throw new MeshError(
      'agent/other-pod',
      `pod ${namespace}/${name} has UID ${facts.uid}, not ${uid}`,
    );
  return facts;
}

/** How long the start of a pod waits for those that were there before it; after that the runtime tries again. */
const firstLookMs = 3_000;
/** How long it waits for a ztunnel: after another agent's end one is back within two seconds. */
const ztunnelMs = 5_000;
const checkMs = 50;

/** Waits for a ztunnel, which connects anew when an agent took the node over. */
async function untilConnected(
  ztunnel: { readonly connected: boolean },
  withinMs: number,
  assertGoesOn: () => void,
): Promise<void> {
  const deadlineMs = performance.now() + withinMs;
  while (!ztunnel.connected && performance.now() < deadlineMs) {
    await new Promise((resolve) => setTimeout(resolve, checkMs));
    assertGoesOn();
  }
}

/**
 * Waits, for a while each, for a ztunnel, and for the pods that were there before to be looked at. Throws when these were
 * not, or what `assertGoesOn` does: then nobody needs to wait on.
 */
export async function untilReady(
  uid: string,
  ztunnel: { readonly connected: boolean },
  firstLook: FirstLook,
  assertGoesOn: () => void,
): Promise<void> {
  await untilConnected(ztunnel, ztunnelMs, assertGoesOn);
  if (ztunnel.connected) await firstLook.passed(uid, firstLookMs, assertGoesOn);
}
