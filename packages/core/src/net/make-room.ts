import type { Server, Socket } from 'node:net';

/** A connection by its two ends, be it the socket itself or what runs over it. */
type End = Pick<Socket, 'remoteAddress' | 'remotePort'>;

/** The connections of a server of which nobody knows yet whose they are. */
export interface Room {
  /** It was of use: all others go before it. */
  renew(end: End): void;
  /** It is known whose it is, and counts no more. */
  release(end: End): void;
}

/**
 * Whoever holds many connections loses the oldest, so that nobody keeps others out, or fills the memory, by being first.
 */
export function makeRoom(server: Server, max: number): Room {
  const open = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const key = keyOf(socket);
    // It is gone already.
    if (key === undefined) return;
    if (open.size >= max) {
      for (const [oldest, held] of open) {
        open.delete(oldest);
        held.destroy();
        break;
      }
    }
    open.set(key, socket);
    socket.once('close', () => {
      if (open.get(key) === socket) open.delete(key);
    });
  });
  return {
    renew: (end) => {
      const key = keyOf(end);
      const socket = key === undefined ? undefined : open.get(key);
      if (key === undefined || socket === undefined) return;
      open.delete(key);
      open.set(key, socket);
    },
    release: (end) => {
      const key = keyOf(end);
      if (key !== undefined) open.delete(key);
    },
  };
}

function keyOf({ remoteAddress, remotePort }: End): string | undefined {
  return remoteAddress === undefined ? undefined : `${remoteAddress} ${remotePort ?? 0}`;
}
