import type { HeaderBounds } from './hpack-decoder.ts';

/** Bounds of one session. */
export interface SessionLimits {
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /**
   * When the peer gets back what it may send on the connection: at once, so that a stream that is not read holds up no
   * other, or with the reading, so that all streams together hold one window at most.
   */
  readonly connectionCredit: 'at-once' | 'when-read';
  readonly maxFrameBytes: number;
  /** Streams that may be open at once. */
  readonly maxStreams: number;
  /** A header block may not be longer than this before it is decoded. */
  readonly maxBlockBytes: number;
  readonly headers: HeaderBounds;
  /** A peer that does not answer a PING for this long is gone; an interval of 0 sends none. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** For the peer's preface and first SETTINGS, and for the rest of a header block that was begun. */
  readonly prefaceTimeoutMs: number;
  readonly headerTimeoutMs: number;
  /** A session without streams lives this long, where this side ends idle ones. */
  readonly idleTimeoutMs: number;
}

/** A header block may not come in more frames. */
export const maxContinuations = 8;

/** What a peer may do without moving data: this much at once, and so much each second. */
export const controlBurst = 1500;
export const controlPerSecond = 150;
/** What is sent to a peer has to be granted by it, and one of small windows grants it in small pieces. */
export const bytesPerToken = 200;

/** Bytes waiting in the TLS socket above which streams are told to stop writing. */
export const socketHighWaterBytes = 1024 * 1024;

/**
 * Heads of answers and control frames that wait for a peer who does not read; one that is not answered asks no more than
 * `maxStreams` at once, so only those get there who mean to.
 */
export const maxUnreadBytes = 4 * 1024 * 1024;

/** Between the two GOAWAYs of a server, at most: a PING between them tells that the first has been read. */
export const secondGoawayMs = 1_000;
/** How long a peer may take to read what is left once a session is over. */
export const lingerMs = 5_000;

/** What a peer pays for what makes work and carries nothing (security.md T14). */
export const costs = { stream: 1, oldStream: 15, reset: 5, emptyData: 1, strayFrame: 1 };
