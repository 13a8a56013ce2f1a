import type { ByteSink, ByteStream } from '../net/byte-stream.ts';
import type { Http2Error } from './errors.ts';
import { errorCode } from './frames.ts';
import type { FieldList } from './hpack-table.ts';
import { Unread } from './unread.ts';

/** What a stream asks of its session. */
export interface StreamHost {
  /** Sends what the windows and the socket allow of the stream's queue. */
  pump(stream: Http2Stream): void;
  /** Gives the peer back credit for bytes that were consumed, or that nobody will. */
  consumed(stream: Http2Stream, bytes: number): void;
  reset(stream: Http2Stream, code: number, reason: Error): void;
  closed(stream: Http2Stream, error: Http2Error | undefined): void;
}

/**
 * One stream of HTTP/2: a tunnel, or a request with its answer. Both ends are half-closed one by one; a reset is never
 * an end.
 */
export class Http2Stream implements ByteStream {
  readonly id: number;
  readonly queue: Buffer[] = [];
  queuedBytes = 0;
  /** Bytes that have left the queue, ever. */
  sentBytes = 0;
  sendWindow: number;
  receiveWindow: number;
  unreturned = 0;
  /** True once the peer has sent bytes on it. */
  carried = false;
  /** Our side: `ending` has bytes to send first. */
  sending: 'open' | 'ending' | 'ended' = 'open';
  /** What follows the last byte. */
  trailers: FieldList | undefined;
  receiving: 'open' | 'ended' = 'open';
  blocked = false;
  #host: StreamHost;
  #sink: ByteSink | undefined;
  readonly #waiting = new Unread();
  #paused = false;
  /** While the sink takes a chunk: whatever it does, the next one waits until it is done with this one. */
  #delivering = false;
  #endTold = false;
  #closed = false;
  #error: Http2Error | undefined;

  constructor(host: StreamHost, id: number, sendWindow: number, receiveWindow: number) {
    this.#host = host;
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  get closed(): boolean {
    return this.#closed;
  }

  attach(sink: ByteSink): void {
    this.#sink = sink;
    this.deliver();
  }

  write(chunk: Buffer): boolean {
    if (this.sending !== 'open' || this.#closed) return true;
    if (chunk.length > 0) {
      this.queue.push(chunk);
      this.queuedBytes += chunk.length;
      this.#host.pump(this);
    }
    this.blocked = this.queuedBytes > 0;
    return !this.blocked;
  }

  /** Ends our side; a message may have fields behind its body. */
  end(trailers?: FieldList): void {
    if (this.sending !== 'open' || this.#closed) return;
    this.sending = 'ending';
    this.trailers = trailers;
    this.#host.pump(this);
  }

  abort(reason: Error): void {
    this.reset(errorCode.cancel, reason);
  }

  reset(code: number, reason: Error): void {
    if (!this.#closed) this.#host.reset(this, code, reason);
    // Over already, but somebody had paused it before all was read.
    else this.dropUnread();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.deliver();
  }

  /** Called by the session with bytes of the peer. */
  receive(chunk: Buffer): void {
    const sink = this.#sink;
    if (sink === undefined || this.#paused || this.#delivering || !this.#waiting.isEmpty()) {
      this.#waiting.push(chunk);
      this.deliver();
      return;
    }
    this.#delivering = true;
    try {
      this.#hand(sink, chunk);
    } finally {
      this.#delivering = false;
    }
    if (!this.#waiting.isEmpty() || this.#isOver()) this.deliver();
  }

  #hand(sink: ByteSink, chunk: Buffer): void {
    sink.data(chunk);
    this.#host.consumed(this, chunk.length);
  }

  #isOver(): boolean {
    return this.#closed || this.receiving === 'ended';
  }

  /** The queue has room again. */
  writable(): void {
    if (!this.blocked || this.queuedBytes > 0) return;
    this.blocked = false;
    this.#sink?.drain();
  }

  /** Both directions are over; an error tells that it was no orderly end. */
  finish(error?: Http2Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.queue.length = 0;
    this.queuedBytes = 0;
    const unwanted = this.#sink === undefined || this.receiving === 'open';
    if (error !== undefined || unwanted) this.dropUnread();
    this.#host.closed(this, error);
    this.deliver();
  }

  /** What has come and was not read is not wanted any more; nor is its end, which would make a whole of the rest. */
  dropUnread(): void {
    if (this.#waiting.isEmpty()) return;
    this.#endTold = true;
    this.#host.consumed(this, this.#waiting.clear());
  }

  /** Hands on what waits, and the end behind it. */
  deliver(): void {
    const sink = this.#sink;
    if (sink === undefined || this.#delivering) return;
    this.#delivering = true;
    try {
      while (!this.#paused) {
        const chunk = this.#waiting.shift();
        if (chunk === undefined) break;
        this.#hand(this.#sink ?? sink, chunk);
      }
    } finally {
      this.#delivering = false;
    }
    if (!this.#waiting.isEmpty()) return;
    if (this.receiving === 'ended' && !this.#endTold && this.#error === undefined) {
      this.#endTold = true;
      sink.end();
    }
    // Told once: whoever heard the end may have ended the stream, and heard of that already.
    if (this.#closed && this.#sink !== undefined) {
      this.#sink = undefined;
      sink.close(this.#error);
    }
  }
}
