/** Bounds of one HBONE session. Windows and frame size are those of Istio's ztunnel (contracts.md §5). */
export interface SessionLimits {
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly maxFrameBytes: number;
  /** Streams that may be open at once. */
  readonly maxStreams: number;
  /** A peer that does not answer a PING for this long is gone. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** For the peer's preface and first SETTINGS, and for the rest of a header block that was begun. */
  readonly prefaceTimeoutMs: number;
  readonly headerTimeoutMs: number;
  /** A server lets a session without streams live this long. */
  readonly idleTimeoutMs: number;
}

export const defaultLimits: SessionLimits = {
  streamWindowBytes: 4 * 1024 * 1024,
  connectionWindowBytes: 16 * 1024 * 1024,
  maxFrameBytes: 1024 * 1024,
  maxStreams: 100,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 20_000,
  prefaceTimeoutMs: 5_000,
  headerTimeoutMs: 5_000,
  idleTimeoutMs: 10 * 60_000,
};

/** A header block may not be longer than this before it is decoded, nor come in more frames. */
export const maxHeaderBlockBytes = 32 * 1024;
export const maxContinuations = 8;

/** What a peer may do without moving data: this much at once, and so much each second. */
export const controlBurst = 1500;
export const controlPerSecond = 150;

/** Bytes waiting in the TLS socket above which streams are told to stop writing. */
export const socketHighWaterBytes = 1024 * 1024;

/** Between the two GOAWAYs of a server. */
export const secondGoawayMs = 500;
/** How long a peer may take to read what is left once a session is over. */
export const lingerMs = 5_000;
