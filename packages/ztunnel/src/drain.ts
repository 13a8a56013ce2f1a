import type { Copy } from '@ambit/core';
import type { Connections, OpenConnection } from './connections.ts';

/** What was seen of a connection since the drain began. */
export interface Activity {
  /** Bytes both ways. */
  readonly bytes: number;
  readonly changedAtMs: number;
}

/** How a drain ends: in its window silent connections are let go, and in the last part of that as soon as they are. */
export interface DrainEnd {
  readonly windowMs: number;
  readonly lastPartMs: number;
  readonly silenceMs: number;
}

const maxWindowMs = 5_000;
/**
 * A client that asks again and again is silent for a moment after each answer. It is let go at the beginning of that
 * moment, not at its end: there its next request would meet the cut.
 */
const shortestSilenceMs = 2;
const maxShareOfTime = 0.25;

/** Pure. */
export function endOf(drainMs: number): DrainEnd {
  const windowMs = Math.min(maxWindowMs, drainMs / 2);
  return { windowMs, lastPartMs: windowMs / 5, silenceMs: windowMs / 20 };
}

/** Pure: what is known of a connection after another look at its counts. */
export function observe(before: Activity | undefined, bytes: number, nowMs: number): Activity {
  return before?.bytes === bytes ? before : { bytes, changedAtMs: nowMs };
}

/**
 * Pure: true for a connection on which nobody waits for anything, as far as its bytes tell: the client did not speak last,
 * and it is silent.
 */
export function mayEnd(
  activity: Activity,
  last: Copy['last'],
  { nowMs, leftMs, end }: { nowMs: number; leftMs: number; end: DrainEnd },
): boolean {
  const silenceMs = leftMs > end.lastPartMs ? end.silenceMs : shortestSilenceMs;
  return last !== 'sent' && nowMs - activity.changedAtMs >= silenceMs;
}

/**
 * Waits until no connection is open, at most `drainMs`. Towards the end it cuts those that are silent after an answer: a
 * client that keeps its connection for the next request learns of it before it sends one. What is busy until the end is
 * cut by the caller.
 */
export async function drain(connections: Connections, drainMs: number): Promise<void> {
  const deadlineMs = performance.now() + drainMs;
  const end = endOf(drainMs);
  const idle = connections.idle().then(() => true);
  if (await Promise.race([idle, wait(drainMs - end.windowMs)])) return;
  let seen = new Map<OpenConnection, Activity>();
  for (;;) {
    const nowMs = performance.now();
    const leftMs = deadlineMs - nowMs;
    if (leftMs <= 0) return;
    seen = letGo(connections, seen, { nowMs, leftMs, end });
    const tookMs = performance.now() - nowMs;
    const pauseMs = leftMs > end.lastPartMs ? end.silenceMs / 4 : shortestSilenceMs;
    if (await Promise.race([idle, wait(Math.max(pauseMs, tookMs / maxShareOfTime))])) return;
  }
}

function letGo(
  connections: Connections,
  seen: ReadonlyMap<OpenConnection, Activity>,
  at: { readonly nowMs: number; readonly leftMs: number; readonly end: DrainEnd },
): Map<OpenConnection, Activity> {
  const now = new Map<OpenConnection, Activity>();
  for (const connection of [...connections.list()]) {
    const { copy } = connection;
    const bytes = copy.counts.sent + copy.counts.received;
    const activity = observe(seen.get(connection), bytes, at.nowMs);
    now.set(connection, activity);
    if (mayEnd(activity, copy.last, at)) copy.abort(new Error('the proxy is stopping'));
  }
  return now;
}

/** Ends after what came meanwhile was read: who is late must not take for silence what is in the sockets. */
function wait(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => setImmediate(resolve, false), ms).unref());
}
