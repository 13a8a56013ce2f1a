import type { SessionLimits } from '@ambit/core';
import { defaultLimits } from '@ambit/core';

/**
 * Bounds of a connection of requests. Its streams share what they may hold unread; one that is not read at all is ended
 * by its client's or its route's time.
 */
export const requestLimits: SessionLimits = {
  ...defaultLimits,
  streamWindowBytes: 256 * 1024,
  connectionWindowBytes: 1024 * 1024,
  connectionCredit: 'when-read',
  maxFrameBytes: 64 * 1024,
  maxStreams: 100,
  maxBlockBytes: 64 * 1024,
  headers: { maxListBytes: 60 * 1024, maxFields: 128 },
  // Whoever carries the connection, HBONE or TCP, watches over it.
  pingIntervalMs: 0,
};
