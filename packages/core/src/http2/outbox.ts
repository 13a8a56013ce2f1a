import { FrameWriter } from './frame-writer.ts';
import type { SessionTransport } from './transport.ts';

/** The frames that wait to leave, and whether the socket takes more. */
export class Outbox {
  readonly #transport: SessionTransport;
  readonly #left: (room: boolean) => void;
  readonly #frames = new FrameWriter();
  #flushing = false;
  #closed = false;
  #congested = false;

  /** `left` is told of each write, and whether the socket took it all. */
  constructor(transport: SessionTransport, left: (room: boolean) => void) {
    this.#transport = transport;
    this.#left = left;
  }

  /** The socket holds as much as it may; streams wait until it has drained. */
  get congested(): boolean {
    return this.#congested;
  }

  get closed(): boolean {
    return this.#closed;
  }

  drained(): void {
    this.#congested = false;
  }

  /** Whole frames, as they are. */
  queue(bytes: Buffer): void {
    if (this.#closed) return;
    this.#frames.frame(bytes);
    this.#flushSoon();
  }

  /** Bytes of a stream; a frame takes `maxBytes` of them at most. */
  data(stream: number, part: Buffer, last: boolean, maxBytes: number): void {
    if (this.#closed) return;
    this.#frames.data(stream, part, last, maxBytes);
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    // After all sockets of this turn of the event loop were read: their frames leave in one record and one write.
    setImmediate(() => this.flush());
  }

  /** Writes what waits, and `last` after it. */
  flush(...last: readonly Buffer[]): void {
    this.#flushing = false;
    const transport = this.#transport;
    for (const bytes of last) this.#frames.frame(bytes);
    if (this.#frames.empty || transport.destroyed) return;
    this.#frames.take((bytes) => transport.write(bytes));
    const room = transport.hasRoom;
    if (!room && transport.congested) this.#congested = true;
    this.#left(room);
  }

  /** Nothing more is taken; what waits still leaves. */
  close(): void {
    this.#closed = true;
  }
}
