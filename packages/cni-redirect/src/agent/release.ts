import type { Netns } from '@ambit/core';
import { renderRemoval } from '../rules/index.ts';
import { runInPod } from '../rules/run.ts';
import { isDrained } from './sockets.ts';

const checkMs = 250;

/**
 * Deletes the rules of a pod that has left. False, and nothing is deleted, while connections go through the proxy; with
 * a time they are waited for that long, and the rules go in any case.
 */
export async function deleteRules(netns: Netns, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (!isDrained(netns)) {
    if (withinMs === 0) return false;
    if (performance.now() > deadline) break;
    await new Promise((resolve) => setTimeout(resolve, checkMs));
  }
  await runInPod(netns, renderRemoval('delete'));
  return true;
}
