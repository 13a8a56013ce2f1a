import { defaultFrameBytes, defaultWindow, maxWindow, rstStreamFrame } from './frames.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import type { FieldList } from './hpack-table.ts';
import { bytesPerToken } from './limits.ts';
import { headerFrames } from './messages.ts';
import type { Outbox } from './outbox.ts';
import type { Http2Stream } from './stream.ts';

const noBytes = Buffer.alloc(0);

/** What one side of a session may send, and what waits until it may. */
export class SendSide {
  readonly #outbox: Outbox;
  readonly #encoder: HpackEncoder;
  /** Told when all of a stream has been sent. */
  readonly #sent: (stream: Http2Stream) => void;
  readonly #blocked = new Set<Http2Stream>();
  #connectionWindow = defaultWindow;
  #newlySent = 0;
  /** Of new streams. */
  streamWindow = defaultWindow;
  frameBytes = defaultFrameBytes;

  constructor(outbox: Outbox, tableBytes: number, sent: (stream: Http2Stream) => void) {
    this.#outbox = outbox;
    this.#encoder = new HpackEncoder(tableBytes);
    this.#sent = sent;
  }

  headers(id: number, fields: FieldList, endStream: boolean): void {
    // Encoded in the order of leaving: both sides keep a table of what was said.
    const block = this.#encoder.encode(fields);
    for (const bytes of headerFrames(id, block, endStream, this.frameBytes)) {
      this.#outbox.queue(bytes);
    }
  }

  reset(id: number, code: number): void {
    this.#outbox.queue(rstStreamFrame(id, code));
  }

  /** What the peer has earned by what was sent to it since this was asked last. */
  takeEarned(): number {
    const tokens = this.#newlySent / bytesPerToken;
    this.#newlySent = 0;
    return tokens;
  }

  pump(stream: Http2Stream): void {
    if (stream.closed) return;
    while (stream.queuedBytes > 0 && !this.#outbox.congested && !this.#outbox.closed) {
      const room = Math.min(this.#connectionWindow, stream.sendWindow, this.frameBytes);
      if (room <= 0) break;
      const [chunk] = stream.queue;
      if (chunk === undefined) break;
      const part = chunk.length <= room ? chunk : chunk.subarray(0, room);
      if (part.length === chunk.length) stream.queue.shift();
      else stream.queue[0] = chunk.subarray(part.length);
      this.#send(stream, part);
    }
    if (stream.queuedBytes > 0) {
      this.#blocked.add(stream);
      return;
    }
    this.#blocked.delete(stream);
    if (stream.sending === 'ending') this.#end(stream);
    if (stream.sending === 'ended') this.#sent(stream);
  }

  #send(stream: Http2Stream, part: Buffer): void {
    stream.queuedBytes -= part.length;
    stream.sentBytes += part.length;
    stream.sendWindow -= part.length;
    this.#connectionWindow -= part.length;
    this.#newlySent += part.length;
    const last =
      stream.sending === 'ending' && stream.queuedBytes === 0 && stream.trailers === undefined;
    if (last) stream.sending = 'ended';
    this.#outbox.data(stream.id, part, last, this.frameBytes);
  }

  #end(stream: Http2Stream): void {
    stream.sending = 'ended';
    if (stream.trailers === undefined) {
      this.#outbox.data(stream.id, noBytes, true, this.frameBytes);
    } else this.headers(stream.id, stream.trailers, true);
  }

  /** The socket takes more. */
  drained(): void {
    this.#outbox.drained();
    this.#pumpBlocked();
  }

  #pumpBlocked(): void {
    if (this.#blocked.size === 0) return;
    for (const stream of [...this.#blocked]) {
      if (this.#outbox.congested) break;
      this.pump(stream);
      stream.writable();
    }
  }

  /** False where the peer gave more than there can be. */
  widen(increment: number): boolean {
    const wasShut = this.#connectionWindow <= 0;
    this.#connectionWindow += increment;
    if (this.#connectionWindow > maxWindow) return false;
    // Credit of the peer says nothing about the socket: whoever does not read gets no more for it.
    if (wasShut) this.#pumpBlocked();
    return true;
  }

  widenStream(stream: Http2Stream, increment: number): boolean {
    stream.sendWindow += increment;
    if (stream.sendWindow > maxWindow) return false;
    this.#unblock(stream);
    return true;
  }

  /** Of all streams, those that are open too. */
  setStreamWindow(value: number, streams: Iterable<Http2Stream>): void {
    const change = value - this.streamWindow;
    this.streamWindow = value;
    for (const stream of [...streams]) {
      stream.sendWindow += change;
      if (change > 0) this.#unblock(stream);
    }
  }

  setTableBytes(value: number): void {
    this.#encoder.bound(value);
  }

  forget(stream: Http2Stream): void {
    this.#blocked.delete(stream);
  }

  #unblock(stream: Http2Stream): void {
    if (!this.#blocked.has(stream)) return;
    this.pump(stream);
    stream.writable();
  }
}
