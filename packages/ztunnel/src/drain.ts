import type { Connections, OpenConnection } from './connections.ts';

/** What was seen of a connection since the drain began. */
export interface Activity {
  readonly sent: number;
  readonly received: number;
  readonly changedAtMs: number;
  /** The client spoke last, so an answer is under way. */
  readonly awaitsAnswer: boolean;
}

/** The last part of a drain, in which connections are let go one by one where it costs nobody anything. */
const windowMs = 5_000;
const shareOfWindow = 0.5;
/** The less time is left, the shorter a silence is enough. */
const silencesLeft = 20;
const shortestSilenceMs = 2;

/** Pure: what is known of a connection after another look at its counts. */
export function observe(
  before: Activity | undefined,
  counts: { readonly sent: number; readonly received: number },
  nowMs: number,
): Activity {
  const { sent, received } = counts;
  if (before === undefined) return { sent, received, changedAtMs: nowMs, awaitsAnswer: false };
  if (received !== before.received)
    return { sent, received, changedAtMs: nowMs, awaitsAnswer: false };
  if (sent !== before.sent) return { sent, received, changedAtMs: nowMs, awaitsAnswer: true };
  return before;
}

/** Pure: true for a connection on which nobody waits for anything, as far as its bytes tell. */
export function mayEnd(activity: Activity, nowMs: number, leftMs: number): boolean {
  const silenceMs = Math.max(shortestSilenceMs, leftMs / silencesLeft);
  return !activity.awaitsAnswer && nowMs - activity.changedAtMs >= silenceMs;
}

/**
 * Waits until no connection is open, at most `drainMs`. Towards the end it cuts those that are silent after an answer: a
 * client that keeps its connection for the next request learns of it before it sends one. What is busy until the end is
 * cut by the caller.
 */
export async function drain(connections: Connections, drainMs: number): Promise<void> {
  const deadlineMs = performance.now() + drainMs;
  const lastPartMs = Math.min(windowMs, drainMs * shareOfWindow);
  const idle = connections.idle().then(() => true);
  if (await Promise.race([idle, wait(drainMs - lastPartMs)])) return;
  let seen = new Map<OpenConnection, Activity>();
  for (;;) {
    const nowMs = performance.now();
    const leftMs = deadlineMs - nowMs;
    if (leftMs <= 0) return;
    const now = new Map<OpenConnection, Activity>();
    for (const connection of [...connections.list()]) {
      const activity = observe(seen.get(connection), connection.copy.counts, nowMs);
      now.set(connection, activity);
      if (mayEnd(activity, nowMs, leftMs))
        connection.copy.abort(new Error('the proxy is stopping'));
    }
    seen = now;
    const pauseMs = Math.max(shortestSilenceMs, leftMs / silencesLeft / 4);
    if (await Promise.race([idle, wait(pauseMs)])) return;
  }
}

function wait(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), ms).unref());
}
