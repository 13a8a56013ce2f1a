import { FrameWriter } from './frame-writer.ts';
import { maxUnreadBytes } from './limits.ts';
import type { SessionTransport } from './transport.ts';

/** The frames that wait to leave, and whether the socket takes more. */
export class Outbox {
  readonly #transport: SessionTransport;
  readonly #left: (room: boolean) => void;
  readonly #overfull: () => void;
  readonly #frames = new FrameWriter();
  #flushing = false;
  #closed = false;
  #congested = false;
  /** Of the frames that no window bounds: what was queued since the socket took no more. */
  #unread = 0;

  /**
   * `left` is told of each write, and whether the socket took it all; `overfull` that a peer asks and asks, and does not
   * read what it is told.
   */
  constructor(transport: SessionTransport, left: (room: boolean) => void, overfull: () => void) {
    this.#transport = transport;
    this.#left = left;
    this.#overfull = overfull;
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
    this.#unread = 0;
  }

  /** Whole frames, as they are. */
  queue(bytes: Buffer): void {
    if (this.#closed) return;
    this.#frames.frame(bytes);
    this.#flushSoon();
    if (!this.#congested) return;
    this.#unread += bytes.length;
    if (this.#unread > maxUnreadBytes) this.#overfull();
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
