/* eslint-disable max-lines -- one connection's state machine: its frames, windows and streams are one thing */
import type { TLSSocket } from 'node:tls';
import { Budget } from './budget.ts';
import { HboneError } from './errors.ts';
import { FrameReader } from './frame-reader.ts';
import {
  defaultFrameBytes,
  defaultWindow,
  errorCode,
  flag,
  frame,
  frameHeader,
  frameType,
  goawayFrame,
  maxWindow,
  preface,
  rstStreamFrame,
  setting,
  settingsFrame,
  windowUpdateFrame,
} from './frames.ts';
import type { HeaderField } from './hpack.ts';
import { HpackDecoder, dynamicTableBytes, encodeHeaders, maxHeaderListBytes } from './hpack.ts';
import type { SessionLimits } from './limits.ts';
import { controlBurst, controlPerSecond, socketHighWaterBytes } from './limits.ts';
import { HboneStream } from './stream.ts';

export interface SessionHandlers {
  /** A header block arrived: a request at the server, an answer at the client. */
  headers(
    session: Session,
    streamId: number,
    fields: readonly HeaderField[],
    endStream: boolean,
  ): void;
  /** A stream that the other side reset or that ended with the session. */
  streamClosed(session: Session, streamId: number, error: HboneError | undefined): void;
  /** The session takes no new streams any more. */
  goaway(session: Session): void;
  closed(session: Session, error: HboneError | undefined): void;
}

const secondGoawayMs = 500;
/** How long a peer may take to read what is left once a session is over. */
const lingerMs = 5_000;

/** One HTTP/2 connection that carries CONNECT streams; the same code on both sides. */
export class Session {
  readonly role: 'client' | 'server';
  readonly socket: TLSSocket;
  readonly limits: SessionLimits;
  readonly streams = new Map<number, HboneStream>();
  readonly #handlers: SessionHandlers;
  readonly #reader: FrameReader;
  readonly #decoder = new HpackDecoder();
  readonly #budget = new Budget(controlBurst, controlPerSecond, performance.now());
  readonly #blocked = new Set<HboneStream>();
  #out: Buffer[] = [];
  #flushing = false;
  #congested = false;
  #sendWindow = defaultWindow;
  #peerStreamWindow = defaultWindow;
  #peerFrameBytes = defaultFrameBytes;
  #peerMaxStreams = Number.POSITIVE_INFINITY;
  #receiveWindow: number;
  #unreturned = 0;
  #lastPeerStream = 0;
  #nextStream = 1;
  /** `warned` says that the end is near; only `sent` names the last stream that is taken. */
  #goaway: 'none' | 'warned' | 'sent' = 'none';
  #goawayTimer: NodeJS.Timeout | undefined;
  #goawayReceived = false;
  #closed = false;
  #prefaceTimer: NodeJS.Timeout | undefined;
  #headerTimer: NodeJS.Timeout | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #pingTimer: NodeJS.Timeout | undefined;
  #unansweredSinceMs: number | undefined;

  constructor(
    role: 'client' | 'server',
    socket: TLSSocket,
    limits: SessionLimits,
    handlers: SessionHandlers,
  ) {
    this.role = role;
    this.socket = socket;
    this.limits = limits;
    this.#handlers = handlers;
    this.#receiveWindow = limits.connectionWindowBytes;
    this.#reader = new FrameReader(role === 'server', limits.maxFrameBytes, {
      frame: (header, payload) => this.#frame(header.type, header.flags, header.stream, payload),
      data: (stream, chunk, padding) => this.#data(stream, chunk, padding),
      dataEnd: (stream, flags, length) => this.#dataEnd(stream, flags, length),
      headers: (stream, block, endStream) => this.#headers(stream, block, endStream),
      headersBegun: () => this.#headersBegun(),
      settled: () => clearTimeout(this.#prefaceTimer),
      violation: (code, why) => this.fail(code, why),
    });
    socket.on('data', (chunk: Buffer) => this.#reader.push(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('error', (error) =>
      this.destroy(new HboneError('hbone/connection-lost', error.message, { cause: error })),
    );
    socket.on('end', () =>
      this.destroy(new HboneError('hbone/connection-lost', 'the peer ended the connection')),
    );
    socket.on('close', () =>
      this.destroy(new HboneError('hbone/connection-lost', 'the connection was closed')),
    );
    this.#greet();
    this.#watchIdle();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** True while another stream may be opened here. */
  get open(): boolean {
    return !this.#closed && !this.#goawayReceived && this.#goaway === 'none';
  }

  get room(): number {
    return Math.min(this.limits.maxStreams, this.#peerMaxStreams) - this.streams.size;
  }

  /** Client: opens a stream with a CONNECT request. */
  request(fields: readonly HeaderField[]): HboneStream {
    const id = this.#nextStream;
    this.#nextStream += 2;
    const stream = this.#addStream(id);
    this.#sendHeaders(id, fields, false);
    return stream;
  }

  /** Server: takes the stream of a request. */
  respond(id: number, fields: readonly HeaderField[]): HboneStream | undefined {
    const stream = this.streams.get(id);
    if (stream !== undefined) this.#sendHeaders(id, fields, false);
    return stream;
  }

  /** Server: answers and ends the stream; the session stays. */
  refuse(id: number, fields: readonly HeaderField[]): void {
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    this.#sendHeaders(id, fields, true);
    if (stream.receiving === 'open') this.#queue(rstStreamFrame(id, errorCode.none));
    stream.finish();
  }

  #pump(stream: HboneStream): void {
    while (stream.queuedBytes > 0 && !this.#congested && !this.#closed) {
      const room = Math.min(this.#sendWindow, stream.sendWindow, this.#peerFrameBytes);
      if (room <= 0) break;
      const [chunk] = stream.queue;
      if (chunk === undefined) break;
      const part = chunk.length <= room ? chunk : chunk.subarray(0, room);
      if (part.length === chunk.length) stream.queue.shift();
      else stream.queue[0] = chunk.subarray(part.length);
      stream.queuedBytes -= part.length;
      stream.sendWindow -= part.length;
      this.#sendWindow -= part.length;
      const last = stream.sending === 'ending' && stream.queuedBytes === 0;
      if (last) stream.sending = 'ended';
      this.#queue(frameHeader(part.length, frameType.data, last ? flag.endStream : 0, stream.id));
      this.#queue(part);
    }
    if (stream.queuedBytes > 0) {
      this.#blocked.add(stream);
      return;
    }
    this.#blocked.delete(stream);
    if (stream.sending === 'ending') {
      stream.sending = 'ended';
      this.#queue(frameHeader(0, frameType.data, flag.endStream, stream.id));
    }
    this.#settle(stream);
  }

  #consumed(stream: HboneStream, bytes: number): void {
    stream.unreturned += bytes;
    if (stream.receiving === 'ended' || stream.unreturned < this.limits.streamWindowBytes / 4)
      return;
    stream.receiveWindow += stream.unreturned;
    this.#queue(windowUpdateFrame(stream.id, stream.unreturned));
    stream.unreturned = 0;
  }

  #reset(stream: HboneStream, code: number, reason: Error): void {
    this.#queue(rstStreamFrame(stream.id, code));
    stream.finish(new HboneError('hbone/aborted', reason.message, { cause: reason }));
  }

  /**
   * GOAWAY: no new streams; what is open goes on, and the session ends with the last of it. A server says it twice
   * (RFC 9113 §6.8): a stream that was opened before the first one arrived is still taken.
   */
  drain(): void {
    if (this.#goaway !== 'none' || this.#closed) return;
    if (this.role === 'client') {
      this.#lastGoaway(0);
      return;
    }
    this.#goaway = 'warned';
    this.#queue(goawayFrame(maxWindow, errorCode.none, ''));
    this.#goawayTimer = setTimeout(() => this.#lastGoaway(this.#lastPeerStream), secondGoawayMs);
    this.#goawayTimer.unref();
  }

  #lastGoaway(lastStream: number): void {
    this.#goaway = 'sent';
    this.#queue(goawayFrame(lastStream, errorCode.none, ''));
    this.#endIfIdle();
  }

  /** The peer broke the protocol, or its budget: says so and ends. */
  fail(code: number, why: string): void {
    if (this.#closed) return;
    this.#out.push(goawayFrame(this.#lastPeerStream, code, why.slice(0, 100)));
    this.#flush();
    this.socket.end();
    this.destroy(new HboneError('hbone/protocol', why));
  }

  destroy(error?: HboneError): void {
    if (this.#closed) return;
    this.#stopped();
    for (const stream of [...this.streams.values()]) {
      stream.finish(error ?? new HboneError('hbone/connection-lost', 'the session was closed'));
    }
    // A moment for a last GOAWAY to leave; then whatever is left is dropped.
    this.#dropAfter(100);
    if (this.socket.writableLength === 0) this.socket.destroy();
    this.#handlers.closed(this, error);
  }

  #stopped(): void {
    this.#closed = true;
    this.#reader.stop();
    for (const timer of [
      this.#prefaceTimer,
      this.#headerTimer,
      this.#idleTimer,
      this.#pingTimer,
      this.#goawayTimer,
    ]) {
      clearTimeout(timer);
    }
  }

  #dropAfter(ms: number): void {
    const grace = setTimeout(() => this.socket.destroy(), ms);
    grace.unref();
    this.socket.once('close', () => clearTimeout(grace));
  }

  #closedStream(stream: HboneStream): void {
    this.streams.delete(stream.id);
    this.#blocked.delete(stream);
    if (this.streams.size === 0) this.#watchIdle();
    this.#endIfIdle();
  }

  #greet(): void {
    const { limits } = this;
    if (this.role === 'client') this.#out.push(preface);
    this.#out.push(
      settingsFrame([
        [setting.headerTableSize, dynamicTableBytes],
        [setting.enablePush, 0],
        [setting.maxConcurrentStreams, this.role === 'server' ? limits.maxStreams : 0],
        [setting.initialWindowSize, limits.streamWindowBytes],
        [setting.maxFrameSize, limits.maxFrameBytes],
        [setting.maxHeaderListSize, maxHeaderListBytes],
      ]),
      windowUpdateFrame(0, limits.connectionWindowBytes - defaultWindow),
    );
    this.#flush();
    this.#prefaceTimer = setTimeout(() => {
      this.fail(errorCode.protocol, 'no preface and SETTINGS in time');
    }, limits.prefaceTimeoutMs);
    this.#pingTimer = setInterval(() => this.#ping(), limits.pingIntervalMs);
    this.#pingTimer.unref();
  }

  #ping(): void {
    if (this.streams.size === 0) return;
    const now = performance.now();
    if (this.#unansweredSinceMs === undefined) {
      this.#unansweredSinceMs = now;
      this.#queue(frame(frameType.ping, 0, 0, Buffer.alloc(8)));
    } else if (now - this.#unansweredSinceMs >= this.limits.pingTimeoutMs) {
      this.destroy(
        new HboneError(
          'hbone/peer-silent',
          `no answer to a PING in ${this.limits.pingTimeoutMs} ms`,
        ),
      );
    }
  }

  #watchIdle(): void {
    clearTimeout(this.#idleTimer);
    if (this.role === 'client' || this.#closed) return;
    this.#idleTimer = setTimeout(() => {
      this.drain();
    }, this.limits.idleTimeoutMs);
    this.#idleTimer.unref();
  }

  #endIfIdle(): void {
    if (this.#closed || this.streams.size > 0) return;
    if (this.#goaway !== 'sent' && !this.#goawayReceived) return;
    this.#flush();
    this.#stopped();
    // The peer may still have to read the tail of the last stream, and closing before it has would cut that off.
    this.socket.once('end', () => this.socket.destroy());
    this.#dropAfter(lingerMs);
    this.socket.end();
    this.#handlers.closed(this, undefined);
  }

  #addStream(id: number): HboneStream {
    const stream = new HboneStream(
      {
        pump: (one) => this.#pump(one),
        consumed: (one, bytes) => this.#consumed(one, bytes),
        reset: (one, code, reason) => this.#reset(one, code, reason),
        closed: (one) => this.#closedStream(one),
      },
      id,
      this.#peerStreamWindow,
      this.limits.streamWindowBytes,
    );
    this.streams.set(id, stream);
    clearTimeout(this.#idleTimer);
    return stream;
  }

  #sendHeaders(id: number, fields: readonly HeaderField[], endStream: boolean): void {
    const block = encodeHeaders(fields);
    const size = this.#peerFrameBytes;
    for (let at = 0; at === 0 || at < block.length; at += size) {
      const part = block.subarray(at, at + size);
      const end = at + size >= block.length ? flag.endHeaders : 0;
      const type = at === 0 ? frameType.headers : frameType.continuation;
      this.#queue(frame(type, end | (at === 0 && endStream ? flag.endStream : 0), id, part));
    }
  }

  #queue(bytes: Buffer): void {
    if (this.#closed) return;
    this.#out.push(bytes);
    if (this.#flushing) return;
    this.#flushing = true;
    // After all sockets of this turn of the event loop were read: their frames leave in one record and one write.
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    const out = this.#out;
    if (out.length === 0 || this.socket.destroyed) return;
    this.#out = [];
    let room: boolean;
    if (out.length === 1) {
      room = this.socket.write(out[0] ?? Buffer.alloc(0));
    } else {
      this.socket.cork();
      for (const bytes of out) this.socket.write(bytes);
      this.socket.uncork();
      room = !this.socket.writableNeedDrain;
    }
    if (!room && this.socket.writableLength > socketHighWaterBytes) this.#congested = true;
    if (room && this.#blocked.size > 0) this.#drained();
  }

  #isCongested(): boolean {
    return this.#congested;
  }

  #drained(): void {
    this.#congested = false;
    for (const stream of [...this.#blocked]) {
      if (this.#isCongested()) break;
      this.#pump(stream);
      stream.writable();
    }
  }

  #settle(stream: HboneStream): void {
    if (stream.sending === 'ended' && stream.receiving === 'ended') stream.finish();
  }

  #charge(cost: number): boolean {
    if (this.#budget.spend(cost, performance.now())) return true;
    this.fail(errorCode.enhanceYourCalm, 'too many frames that carry nothing');
    return false;
  }

  #headersBegun(): void {
    this.#headerTimer ??= setTimeout(() => {
      this.fail(errorCode.enhanceYourCalm, 'a header block was not finished in time');
    }, this.limits.headerTimeoutMs);
  }

  #headers(id: number, block: Buffer, endStream: boolean): void {
    clearTimeout(this.#headerTimer);
    this.#headerTimer = undefined;
    let fields: HeaderField[];
    try {
      fields = this.#decoder.decode(block);
    } catch (error) {
      this.fail(
        errorCode.compression,
        error instanceof Error ? error.message : 'malformed header block',
      );
      return;
    }
    if (this.role === 'server' ? !this.#admit(id) : !this.streams.has(id)) return;
    if (endStream) this.#receiveEnd(id);
    this.#handlers.headers(this, id, fields, endStream);
  }

  /** Server: a request on a new stream, or trailers on one that is known. */
  #admit(id: number): boolean {
    if (this.streams.has(id)) {
      this.fail(errorCode.protocol, 'a CONNECT stream has no trailers');
      return false;
    }
    if (id % 2 === 0 || id <= this.#lastPeerStream) {
      this.fail(errorCode.protocol, `stream ${id} is not a new one`);
      return false;
    }
    this.#lastPeerStream = id;
    if (!this.#charge(1)) return false;
    if (this.#goaway === 'sent' || this.streams.size >= this.limits.maxStreams) {
      this.#queue(rstStreamFrame(id, errorCode.refusedStream));
      return false;
    }
    this.#addStream(id);
    return true;
  }

  #data(id: number, chunk: Buffer, padding: number): void {
    const bytes = chunk.length + padding;
    this.#receiveWindow -= bytes;
    if (this.#receiveWindow < 0) {
      this.fail(errorCode.flowControl, 'the peer wrote beyond the connection window');
      return;
    }
    // Given back at once, whoever the bytes are for: a stream that is not read holds only its own window.
    this.#unreturned += bytes;
    if (this.#unreturned >= this.limits.connectionWindowBytes / 4) {
      this.#receiveWindow += this.#unreturned;
      this.#queue(windowUpdateFrame(0, this.#unreturned));
      this.#unreturned = 0;
    }
    const stream = this.streams.get(id);
    if (stream === undefined || stream.receiving === 'ended') {
      if (id > this.#lastKnown() || id === 0)
        this.fail(errorCode.protocol, 'DATA on a stream that was never opened');
      else this.#charge(1);
      return;
    }
    stream.receiveWindow -= bytes;
    if (stream.receiveWindow < 0) {
      this.#queue(rstStreamFrame(id, errorCode.flowControl));
      stream.finish(new HboneError('hbone/protocol', 'the peer wrote beyond the stream window'));
      return;
    }
    if (padding > 0) this.#consumed(stream, padding);
    if (chunk.length === 0) return;
    // A stream that carries bytes is a connection, however short: it has earned its opening.
    if (!stream.carried) this.#budget.earn(1);
    stream.carried = true;
    stream.receive(chunk);
  }

  #dataEnd(id: number, flags: number, length: number): void {
    const ends = (flags & flag.endStream) !== 0;
    if (length === 0 && !ends) this.#charge(1);
    if (ends) this.#receiveEnd(id);
  }

  #receiveEnd(id: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined || stream.receiving === 'ended') return;
    stream.receiveEnd();
    this.#settle(stream);
  }

  #lastKnown(): number {
    return this.role === 'server' ? this.#lastPeerStream : this.#nextStream - 2;
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    switch (type) {
      case frameType.settings:
        this.#settings(flags, id, payload);
        break;
      case frameType.windowUpdate:
        this.#windowUpdate(id, payload);
        break;
      case frameType.rstStream:
        this.#rstStream(id, payload);
        break;
      case frameType.ping:
        this.#pong(flags, payload);
        break;
      case frameType.goaway:
        this.#peerGoesAway(payload);
        break;
      case frameType.pushPromise:
        this.fail(errorCode.protocol, 'PUSH_PROMISE was not enabled');
        break;
      default:
        // PRIORITY and frames of types we do not know are ignored, as the standard asks, but not for free.
        this.#charge(1);
    }
  }

  #settings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0 || payload.length % 6 !== 0) {
      this.fail(errorCode.protocol, 'malformed SETTINGS');
      return;
    }
    if ((flags & flag.ack) !== 0) return;
    if (!this.#charge(10)) return;
    for (let at = 0; at < payload.length; at += 6) {
      this.#setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
    this.#queue(frame(frameType.settings, flag.ack, 0, Buffer.alloc(0)));
  }

  #setting(id: number, value: number): void {
    if (id === setting.maxFrameSize && value >= defaultFrameBytes) {
      this.#peerFrameBytes = Math.min(value, this.limits.maxFrameBytes);
    } else if (id === setting.maxConcurrentStreams) {
      this.#peerMaxStreams = value;
    } else if (id === setting.initialWindowSize) {
      if (value > maxWindow) {
        this.fail(errorCode.flowControl, 'the initial window is too large');
        return;
      }
      const change = value - this.#peerStreamWindow;
      this.#peerStreamWindow = value;
      for (const stream of [...this.streams.values()]) {
        stream.sendWindow += change;
        if (change > 0) this.#unblock(stream);
      }
    }
  }

  #windowUpdate(id: number, payload: Buffer): void {
    const increment = payload.length === 4 ? payload.readUInt32BE(0) & maxWindow : 0;
    if (increment === 0) {
      this.fail(errorCode.protocol, 'malformed WINDOW_UPDATE');
      return;
    }
    if (increment < 1024 && !this.#charge(1)) return;
    if (id === 0) {
      this.#sendWindow += increment;
      if (this.#sendWindow > maxWindow)
        this.fail(errorCode.flowControl, 'the connection window overflows');
      else this.#drained();
      return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      this.#charge(1);
      return;
    }
    stream.sendWindow += increment;
    if (stream.sendWindow <= maxWindow) this.#unblock(stream);
    else {
      this.#queue(rstStreamFrame(id, errorCode.flowControl));
      stream.finish(new HboneError('hbone/protocol', 'the stream window overflows'));
    }
  }

  #unblock(stream: HboneStream): void {
    if (!this.#blocked.has(stream)) return;
    this.#pump(stream);
    stream.writable();
  }

  #rstStream(id: number, payload: Buffer): void {
    if (payload.length !== 4 || id === 0 || id > this.#lastKnown()) {
      this.fail(errorCode.protocol, 'malformed RST_STREAM');
      return;
    }
    // Opening and resetting streams is cheap for the peer and dear for us.
    const stream = this.streams.get(id);
    const cheap = stream?.carried !== true;
    if (this.role === 'server' && cheap && !this.#charge(5)) return;
    if (stream === undefined) return;
    const code = payload.readUInt32BE(0);
    const retryable = code === errorCode.refusedStream;
    const error = new HboneError('hbone/reset', `the peer reset the stream (code ${code})`, {
      retryable,
    });
    this.#handlers.streamClosed(this, id, error);
    stream.finish(error);
  }

  #pong(flags: number, payload: Buffer): void {
    if (payload.length !== 8) {
      this.fail(errorCode.frameSize, 'malformed PING');
      return;
    }
    if ((flags & flag.ack) !== 0) {
      this.#unansweredSinceMs = undefined;
      return;
    }
    if (this.#charge(2)) this.#queue(frame(frameType.ping, flag.ack, 0, payload));
  }

  #peerGoesAway(payload: Buffer): void {
    if (payload.length < 8) {
      this.fail(errorCode.frameSize, 'malformed GOAWAY');
      return;
    }
    const lastTaken = payload.readUInt32BE(0) & maxWindow;
    this.#goawayReceived = true;
    if (this.role === 'client') {
      for (const [id, stream] of [...this.streams]) {
        if (id <= lastTaken) continue;
        const error = new HboneError(
          'hbone/goaway',
          'the peer goes away and did not take the stream',
          { retryable: true },
        );
        this.#handlers.streamClosed(this, id, error);
        stream.finish(error);
      }
    }
    this.#handlers.goaway(this);
    this.#endIfIdle();
  }
}
