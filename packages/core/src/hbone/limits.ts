import type { SessionLimits } from '../http2/index.ts';

/** Bounds of a session of HBONE. Windows and frame size are those of Istio's ztunnel (contracts.md §5). */
export const defaultLimits: SessionLimits = {
  streamWindowBytes: 4 * 1024 * 1024,
  connectionWindowBytes: 16 * 1024 * 1024,
  connectionCredit: 'at-once',
  maxFrameBytes: 1024 * 1024,
  maxStreams: 100,
  maxBlockBytes: 32 * 1024,
  headers: { maxListBytes: 16 * 1024, maxFields: 128 },
  pingIntervalMs: 10_000,
  pingTimeoutMs: 20_000,
  prefaceTimeoutMs: 5_000,
  headerTimeoutMs: 5_000,
  idleTimeoutMs: 10 * 60_000,
};
