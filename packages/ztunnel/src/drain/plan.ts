import type { Direction } from '@ambit/core';

/** What was seen of a connection since the drain began. */
export interface Activity {
  /** Bytes both ways. */
  readonly bytes: number;
  readonly changedAtMs: number;
}

/**
 * How a drain goes. Until `spreadMs` one connection after the other may end behind an answer; in the window at the end
 * silent ones are cut, and in the last part of that as soon as they are silent.
 */
export interface DrainCourse {
  readonly spreadMs: number;
  readonly windowMs: number;
  readonly lastPartMs: number;
  readonly silenceMs: number;
}

const maxWindowMs = 5_000;
/**
 * A client that asks again and again is silent for a moment after each answer. It is cut at the beginning of that
 * moment, not at its end: there its next request would meet the cut.
 */
const shortestSilenceMs = 2;

/** Pure. */
export function courseOf(drainMs: number): DrainCourse {
  const windowMs = Math.min(maxWindowMs, drainMs / 2);
  return {
    spreadMs: (drainMs - windowMs) / 2,
    windowMs,
    lastPartMs: windowMs / 5,
    silenceMs: windowMs / 20,
  };
}

/** Pure: true once a connection's turn has come; `lot` is its own, from 0 to 1. */
export function hasTurn(lot: number, passedMs: number, { spreadMs }: DrainCourse): boolean {
  return passedMs >= lot * spreadMs;
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
  last: Direction | undefined,
  { nowMs, leftMs, course }: { nowMs: number; leftMs: number; course: DrainCourse },
): boolean {
  if (leftMs > course.windowMs) return false;
  const silenceMs = leftMs > course.lastPartMs ? course.silenceMs : shortestSilenceMs;
  return last !== 'sent' && nowMs - activity.changedAtMs >= silenceMs;
}

/** Pure: how long to wait for the next look at all connections. */
export function pauseBetweenLooks(leftMs: number, course: DrainCourse): number {
  if (leftMs > course.windowMs) return course.silenceMs;
  return leftMs > course.lastPartMs ? course.silenceMs / 4 : shortestSilenceMs;
}
