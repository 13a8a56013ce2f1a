import type { SessionLimits } from '../src/index.ts';
import { defaultLimits } from '../src/index.ts';

/** A frame of HTTP/2 byte by byte, for what no peer of good will would send. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Bounds of a session that carries requests; its windows are the test's. */
export function limitsOf(streamWindowBytes: number, connectionWindowBytes: number): SessionLimits {
  return {
    ...defaultLimits,
    streamWindowBytes,
    connectionWindowBytes,
    connectionCredit: 'when-read',
    maxFrameBytes: 32 * 1024,
    maxBlockBytes: 64 * 1024,
    headers: { maxListBytes: 60 * 1024, maxFields: 128 },
    pingIntervalMs: 0,
  };
}
