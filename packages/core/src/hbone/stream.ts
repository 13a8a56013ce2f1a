import type { ByteSink, ByteStream } from '../net/byte-stream.ts';
import type { HboneError } from './errors.ts';
import { errorCode } from './frames.ts';

/** What a stream asks of its session. */
export interface StreamHost {
  /** Sends what the windows and the socket allow of the stream's queue. */
  pump(stream: HboneStream): void;
  /** Gives the peer back credit for bytes that were consumed. */
  consumed(stream: HboneStream, bytes: number): void;
  reset(stream: HboneStream, code: number, reason: Error): void;
  closed(stream: HboneStream): void;
}

/** One CONNECT stream. Both ends are half-closed one by one; a reset is never an end. */
export class HboneStream implements ByteStream {
  readonly id: number;
  readonly queue: Buffer[] = [];
  queuedBytes = 0;
  sendWindow: number;
  receiveWindow: number;
  unreturned = 0;
  /** True once the peer has sent bytes on it. */
  carried = false;
  /** Our side: `ending` has bytes to send first. */
  sending: 'open' | 'ending' | 'ended' = 'open';
  receiving: 'open' | 'ended' = 'open';
  blocked = false;
  #host: StreamHost;
  #sink: ByteSink | undefined;
  #waiting: Buffer[] = [];
  #paused = false;
  /** While the sink takes a chunk: whatever it does, the next one waits until it is done with this one. */
  #delivering = false;
  #endTold = false;
  #closed = false;
  #error: HboneError | undefined;

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
    this.#deliver();
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

  end(): void {
    if (this.sending !== 'open' || this.#closed) return;
    this.sending = 'ending';
    this.#host.pump(this);
  }

  abort(reason: Error): void {
    if (this.#closed) return;
    this.#host.reset(this, errorCode.cancel, reason);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#deliver();
  }

  /** Called by the session with bytes of the peer. */
  receive(chunk: Buffer): void {
    const sink = this.#sink;
    if (sink === undefined || this.#paused || this.#delivering || this.#waiting.length > 0) {
      this.#waiting.push(chunk);
      this.#deliver();
      return;
    }
    this.#delivering = true;
    try {
      this.#hand(sink, chunk);
    } finally {
      this.#delivering = false;
    }
    if (this.#waiting.length > 0 || this.#isOver()) this.#deliver();
  }

  #hand(sink: ByteSink, chunk: Buffer): void {
    sink.data(chunk);
    if (!this.#closed) this.#host.consumed(this, chunk.length);
  }

  #isOver(): boolean {
    return this.#closed || this.receiving === 'ended';
  }

  receiveEnd(): void {
    this.receiving = 'ended';
    this.#deliver();
  }

  /** The queue has room again. */
  writable(): void {
    if (!this.blocked || this.queuedBytes > 0) return;
    this.blocked = false;
    this.#sink?.drain();
  }

  /** Both directions are over; an error tells that it was no orderly end. */
  finish(error?: HboneError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.queue.length = 0;
    this.queuedBytes = 0;
    if (error !== undefined) this.#waiting = [];
    this.#host.closed(this);
    this.#deliver();
  }

  #deliver(): void {
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
    if (this.#waiting.length > 0) return;
    if (this.receiving === 'ended' && !this.#endTold && this.#error === undefined) {
      this.#endTold = true;
      sink.end();
    }
    if (this.#closed) {
      this.#sink = undefined;
      sink.close(this.#error);
    }
  }
}
