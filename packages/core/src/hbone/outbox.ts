import type { TLSSocket } from 'node:tls';
import { socketHighWaterBytes } from './limits.ts';

/** The frames that wait to leave, and whether the socket takes more. */
export class Outbox {
  readonly #socket: TLSSocket;
  readonly #left: (room: boolean) => void;
  #frames: Buffer[] = [];
  #flushing = false;
  #closed = false;
  #congested = false;

  /** `left` is told of each write, and whether the socket took it all. */
  constructor(socket: TLSSocket, left: (room: boolean) => void) {
    this.#socket = socket;
    this.#left = left;
  }

  /** The socket holds as much as it may; streams wait until it has drained. */
  get congested(): boolean {
    return this.#congested;
  }

  drained(): void {
    this.#congested = false;
  }

  queue(bytes: Buffer): void {
    if (this.#closed) return;
    this.#frames.push(bytes);
    if (this.#flushing) return;
    this.#flushing = true;
    // After all sockets of this turn of the event loop were read: their frames leave in one record and one write.
    setImmediate(() => this.flush());
  }

  /** Writes what waits, and `last` after it. */
  flush(...last: readonly Buffer[]): void {
    this.#flushing = false;
    const frames = this.#frames;
    if (last.length > 0) frames.push(...last);
    if (frames.length === 0 || this.#socket.destroyed) return;
    this.#frames = [];
    let room: boolean;
    if (frames.length === 1) {
      room = this.#socket.write(frames[0] ?? Buffer.alloc(0));
    } else {
      this.#socket.cork();
      for (const bytes of frames) this.#socket.write(bytes);
      this.#socket.uncork();
      room = !this.#socket.writableNeedDrain;
    }
    if (!room && this.#socket.writableLength > socketHighWaterBytes) this.#congested = true;
    this.#left(room);
  }

  /** Nothing more is taken; what waits still leaves. */
  close(): void {
    this.#closed = true;
  }
}
