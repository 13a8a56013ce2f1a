import type { Netns } from '@ambit/core';
import { renderRemoval } from '../rules/index.ts';
import { runInPod } from '../rules/run.ts';
import { isDrained } from './sockets.ts';

const checkMs = 250;

/**
 * Deletes the rules of a pod that has left, once no connection goes through the proxy. After so long false, and nothing is
 * deleted, or with `force` they are deleted in any case.
 */
export async function deleteRules(
  netns: Netns,
  withinMs: number,
  force: boolean,
): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (!isDrained(netns)) {
    if (performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, checkMs));
    else if (force) break;
    else return false;
  }
  await runInPod(netns, renderRemoval('delete'));
  return true;
}
