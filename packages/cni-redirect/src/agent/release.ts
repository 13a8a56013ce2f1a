import type { Netns } from '@ambit/core';
import { renderRemoval } from '../rules/index.ts';
import { listTranslated, runInPod } from '../rules/run.ts';
import { hasOneOf, isDrained } from './sockets.ts';

const checkMs = 250;

/** What became of the rules of a pod that has left. `left`: what takes nothing stays, for connections that need it. */
export type Removed = 'deleted' | 'left' | 'not-yet';

/**
 * Deletes the rules of a pod that has left, once no connection goes through the proxy and none has a translated port. After
 * so long nothing is done, or with `force` all goes in any case that only the proxy's connections need.
 */
export async function deleteRules(
  netns: Netns,
  withinMs: number,
  force: boolean,
): Promise<Removed> {
  const deadline = performance.now() + withinMs;
  let ended = await hasEnded(netns);
  while (!ended && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, checkMs));
    ended = await hasEnded(netns);
  }
  if (!ended && !force) return 'not-yet';
  const needed = !ended && (await hasTranslated(netns));
  await runInPod(netns, renderRemoval(needed ? 'leave' : 'delete'));
  return needed ? 'left' : 'deleted';
}

async function hasEnded(netns: Netns): Promise<boolean> {
  return isDrained(netns) && !(await hasTranslated(netns));
}

async function hasTranslated(netns: Netns): Promise<boolean> {
  return hasOneOf(netns, await listTranslated(netns));
}
