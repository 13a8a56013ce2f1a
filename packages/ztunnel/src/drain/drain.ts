import type { Connections, OpenConnection } from '../connections.ts';
import { Exchanges } from './exchanges.ts';
import type { Activity, DrainCourse } from './plan.ts';
import { courseOf, hasTurn, mayEnd, observe, pauseBetweenLooks } from './plan.ts';

interface Seen {
  readonly lot: number;
  readonly endsBehindAnswer: boolean;
  readonly activity: Activity;
}

const maxShareOfTime = 0.25;

/**
 * Waits until no connection is open, at most `drainMs`. Those that speak HTTP/1.1 end behind an answer, one after the
 * other: the client reads both at once and opens its next connection, which the proxy that comes gets. Towards the end
 * those are cut that are silent after an answer of whatever kind. What is busy until the end is cut by the caller. A pod that
 * is not `captured` any more gets no other proxy: what it has open goes on for as long as there is time.
 */
export async function drain(
  connections: Connections,
  drainMs: number,
  captured: (podUid: string) => boolean,
): Promise<void> {
  const beganMs = performance.now();
  const course = courseOf(drainMs);
  const idle = connections.idle().then(() => true);
  let seen: ReadonlyMap<OpenConnection, Seen> = new Map();
  for (;;) {
    const nowMs = performance.now();
    const leftMs = beganMs + drainMs - nowMs;
    if (leftMs <= 0) return;
    seen = look(connections, seen, {
      nowMs,
      passedMs: nowMs - beganMs,
      leftMs,
      course,
      captured,
    });
    const tookMs = performance.now() - nowMs;
    const pauseMs = Math.max(pauseBetweenLooks(leftMs, course), tookMs / maxShareOfTime);
    if (await Promise.race([idle, wait(pauseMs)])) return;
  }
}

interface At {
  readonly nowMs: number;
  readonly passedMs: number;
  readonly leftMs: number;
  readonly course: DrainCourse;
  readonly captured: (podUid: string) => boolean;
}

function look(
  connections: Connections,
  before: ReadonlyMap<OpenConnection, Seen>,
  at: At,
): Map<OpenConnection, Seen> {
  const seen = new Map<OpenConnection, Seen>();
  for (const connection of [...connections.list()]) {
    const { copy, record } = connection;
    const known = before.get(connection);
    const bytes = copy.counts.sent + copy.counts.received;
    const activity = observe(known?.activity, bytes, at.nowMs);
    const lot = known?.lot ?? Math.random();
    const hadTurn = known?.endsBehindAnswer === true;
    const endsBehindAnswer =
      hadTurn || (at.captured(record.podUid) && hasTurn(lot, at.passedMs, at.course));
    seen.set(connection, { lot, endsBehindAnswer, activity });
    // Whether something was to follow is not known: it must not be taken for whole.
    if (mayEnd(activity, copy.last, at)) copy.abort(stopping());
    else if (endsBehindAnswer && !hadTurn) {
      const exchanges = new Exchanges(copy.last);
      copy.letGo(stopping(), (direction, chunk) => exchanges.follow(direction, chunk));
    }
  }
  return seen;
}

function stopping(): Error {
  return new Error('the proxy is stopping');
}

/** Ends after what came meanwhile was read: who is late must not take for silence what is in the sockets. */
function wait(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => setImmediate(resolve, false), ms).unref());
}
