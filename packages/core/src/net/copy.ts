import type { ByteSink, ByteStream } from './byte-stream.ts';

/** How a two-way copy ended. */
export interface CopyOutcome {
  /** Bytes that went from `downstream` to `upstream`. */
  readonly sent: number;
  /** Bytes that came back. */
  readonly received: number;
  /** Absent when both sides ended in order; otherwise the side that broke first, and how. */
  readonly broken?: { readonly side: 'downstream' | 'upstream'; readonly error: Error };
}

/** `sent`: from `downstream` to `upstream`. */
export type Direction = 'sent' | 'received';

export type EndsHere = (direction: Direction, chunk: Buffer) => boolean;

export interface Copy {
  readonly done: Promise<CopyOutcome>;
  readonly counts: { readonly sent: number; readonly received: number };
  /** The direction of the last bytes; undefined before any. */
  readonly last: Direction | undefined;
  /**
   * Ends both sides in order, so that they close what they keep open; who goes on to speak is cut for `reason`. With
   * `behind`, not now but behind the first chunk of which that says so.
   */
  letGo(reason: Error, behind?: EndsHere): void;
  /** Cuts both sides; they see a reset. */
  abort(reason: Error): void;
}

export interface CopyOptions {
  /** How long one direction may stay open in silence after the other has ended. */
  readonly halfClosedTimeoutMs?: number;
  readonly onBytes?: (direction: Direction, bytes: number) => void;
}

const defaultHalfClosedTimeoutMs = 10 * 60_000;

/**
 * Copies both ways until both sides have ended. An end is passed on as an end and a break as a reset, so a cut
 * transfer is never taken for a whole one; a side that does not read stops the other from sending.
 */
export function copyBothWays(
  downstream: ByteStream,
  upstream: ByteStream,
  options: CopyOptions = {},
): Copy {
  const counts = { sent: 0, received: 0 };
  const ended = { downstream: false, upstream: false };
  const closed = { downstream: false, upstream: false };
  let last: Copy['last'];
  let broken: CopyOutcome['broken'];
  let halfClosed: NodeJS.Timeout | undefined;
  let ending: { readonly reason: Error; readonly behind: EndsHere } | undefined;
  let letGoFor: Error | undefined;
  let finish: (outcome: CopyOutcome) => void;
  const done = new Promise<CopyOutcome>((resolve) => (finish = resolve));

  const breakOff = (side: 'downstream' | 'upstream', error: Error): void => {
    if (broken !== undefined) return;
    broken = { side, error };
    downstream.abort(error);
    upstream.abort(error);
  };
  const watchHalfClosed = (): void => {
    clearTimeout(halfClosed);
    if (ended.downstream === ended.upstream) return;
    halfClosed = setTimeout(() => {
      breakOff(ended.downstream ? 'downstream' : 'upstream', new Error('half-closed for too long'));
    }, options.halfClosedTimeoutMs ?? defaultHalfClosedTimeoutMs);
  };
  const endBoth = (reason: Error): void => {
    letGoFor = reason;
    downstream.end();
    upstream.end();
  };
  const sink = (side: 'downstream' | 'upstream', from: ByteStream, to: ByteStream): ByteSink => ({
    data(chunk) {
      if (letGoFor !== undefined) {
        breakOff(side, letGoFor);
        return;
      }
      const direction = side === 'downstream' ? 'sent' : 'received';
      counts[direction] += chunk.length;
      last = direction;
      options.onBytes?.(direction, chunk.length);
      const ends = ending?.behind(direction, chunk) === true ? ending : undefined;
      if (ends !== undefined) to.holdForEnd?.();
      if (!to.write(chunk)) from.pause();
      if (ends !== undefined) endBoth(ends.reason);
      if (halfClosed !== undefined) watchHalfClosed();
    },
    end() {
      ended[side] = true;
      to.end();
      watchHalfClosed();
    },
    drain() {
      // This side can be written to again, so the other may go on sending.
      to.resume();
    },
    close(error) {
      closed[side] = true;
      if (error !== undefined) breakOff(side, error);
      if (!closed.downstream || !closed.upstream) return;
      clearTimeout(halfClosed);
      finish({ ...counts, ...(broken === undefined ? {} : { broken }) });
    },
  });
  downstream.attach(sink('downstream', downstream, upstream));
  upstream.attach(sink('upstream', upstream, downstream));
  return {
    done,
    counts,
    get last() {
      return last;
    },
    letGo(reason, behind) {
      if (behind !== undefined) ending = { reason, behind };
      else if (letGoFor === undefined) endBoth(reason);
    },
    abort: (reason) => breakOff('downstream', reason),
  };
}
