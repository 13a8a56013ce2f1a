import type { Netns } from '@ambit/core';
import { renderRemoval } from '../rules/index.ts';
import { runInPod } from '../rules/run.ts';
import type { ConnectionTracking } from './connection-tracking.ts';
import { isDrained } from './sockets.ts';

/** How long until it is looked again whether the proxy's connections have ended, and whether the others have. */
const checkMs = { proxy: 250, others: 1_000 };

export interface RemovalOptions {
  readonly tracking: ConnectionTracking;
  readonly withinMs: number;
  /** After that time all goes in any case that only the proxy's connections need. */
  readonly force: boolean;
}

/** What became of the rules of a pod that has left. `left`: what takes nothing stays, for connections that need it. */
export type Removed = 'deleted' | 'left' | 'not-yet';

/** Deletes the rules of a pod that has left, once no connection goes through the proxy and none has a translated port. */
export async function deleteRules(
  netns: Netns,
  { tracking, withinMs, force }: RemovalOptions,
): Promise<Removed> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const drained = isDrained(netns);
    const isLate = performance.now() >= deadline;
    const isForced = isLate && force;
    if (drained || isForced) {
      if (!tracking.hasTranslated(netns)) break;
      if (isForced) {
        await runInPod(netns, renderRemoval('leave'));
        return 'left';
      }
    }
    if (isLate) return 'not-yet';
    const waitMs = drained ? checkMs.others : checkMs.proxy;
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
  await runInPod(netns, renderRemoval('delete'));
  return 'deleted';
}
