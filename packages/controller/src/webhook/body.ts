import type { IncomingMessage } from 'node:http';

import { countsMore, maxValues } from '../json-values.ts';

/** Why a body is not taken. */
export type BodyRefused = 'too-long' | 'too-many-values';

/** An object of at most 1.5 MiB, as etcd takes it, and the one that it replaces, with room for their escapes. */
export const maxBodyBytes = 8 * 1024 * 1024;
/** Of all bodies that are being read: whoever can reach the port may begin many. */
const maxHeldBytes = 32 * 1024 * 1024;

/** Reads bodies, and holds no more of them than there is room for. */
export interface BodyReader {
  /** Rejects where the connection ends, also when others need the room. */
  read(request: IncomingMessage): Promise<Buffer | BodyRefused>;
}

export function createBodyReader(maxHeld = maxHeldBytes): BodyReader {
  const held = new Map<IncomingMessage, number>();
  let total = 0;
  const hold = (request: IncomingMessage, bytes: number): void => {
    held.set(request, (held.get(request) ?? 0) + bytes);
    total += bytes;
    // Those of the API server are short, and there at once.
    while (total > maxHeld) {
      const biggest = biggestOf(held);
      if (biggest === undefined) return;
      drop(biggest);
      biggest.destroy();
    }
  };
  const drop = (request: IncomingMessage): void => {
    total -= held.get(request) ?? 0;
    held.delete(request);
  };
  return {
    read: async (request) => {
      if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) return 'too-long';
      const chunks: Buffer[] = [];
      let bytes = 0;
      try {
        for await (const chunk of request as AsyncIterable<Buffer>) {
          bytes += chunk.length;
          if (bytes > maxBodyBytes) return 'too-long';
          chunks.push(chunk);
          hold(request, chunk.length);
        }
      } finally {
        drop(request);
      }
      const body = Buffer.concat(chunks);
      return countsMore(body, maxValues) ? 'too-many-values' : body;
    },
  };
}

function biggestOf(held: ReadonlyMap<IncomingMessage, number>): IncomingMessage | undefined {
  let biggest: IncomingMessage | undefined;
  let most = 0;
  for (const [request, bytes] of held) {
    if (bytes <= most) continue;
    biggest = request;
    most = bytes;
  }
  return biggest;
}
