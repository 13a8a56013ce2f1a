import type { TLSSocket } from 'node:tls';
import { Budget } from './budget.ts';
import type { ControlEvents } from './control-frames.ts';
import { malformedReset, readControlFrame } from './control-frames.ts';
import { HboneError, notTaken, resetByPeer, silentFor } from './errors.ts';
import { FrameReader } from './frame-reader.ts';
import {
  defaultFrameBytes,
  defaultWindow,
  errorCode,
  flag,
  frame,
  frameType,
  goawayFrame,
  maxWindow,
  rstStreamFrame,
  setting,
  windowUpdateFrame,
} from './frames.ts';
import type { HeaderField } from './hpack.ts';
import { HpackDecoder } from './hpack.ts';
import type { SessionLimits } from './limits.ts';
import { controlBurst, controlPerSecond, lingerMs, secondGoawayMs } from './limits.ts';
import { greetingOf, headerFrames } from './messages.ts';
import { Outbox } from './outbox.ts';
import { ReceiveWindow } from './receive-window.ts';
import { SessionWatch } from './session-watch.ts';
import { HboneStream } from './stream.ts';

const noBytes = Buffer.alloc(0);

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
  readonly #outbox: Outbox;
  readonly #watch: SessionWatch;
  #sendWindow = defaultWindow;
  #peerStreamWindow = defaultWindow;
  #peerFrameBytes = defaultFrameBytes;
  #peerMaxStreams = Number.POSITIVE_INFINITY;
  readonly #received: ReceiveWindow;
  #lastPeerStream = 0;
  #nextStream = 1;
  /** `warned` says that the end is near; only `sent` names the last stream that is taken. */
  #goaway: 'none' | 'warned' | 'sent' = 'none';
  #goawayTimer: NodeJS.Timeout | undefined;
  #goawayReceived = false;
  #closed = false;

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
    this.#received = new ReceiveWindow(limits.connectionWindowBytes);
    this.#outbox = new Outbox(socket, (room) => {
      if (room) this.#drained();
    });
    const control = this.#control();
    this.#reader = new FrameReader(role === 'server', limits.maxFrameBytes, {
      frame: ({ type, flags, stream }, payload) =>
        readControlFrame(type, flags, stream, payload, control),
      data: (stream, chunk, padding) => this.#data(stream, chunk, padding),
      dataEnd: (stream, flags, length) => this.#dataEnd(stream, flags, length),
      headers: (stream, block, endStream) => this.#headers(stream, block, endStream),
      headersBegun: () => this.#watch.headersBegun(),
      settled: () => this.#watch.settled(),
      violation: (code, why) => this.fail(code, why),
    });
    socket.on('data', (chunk: Buffer) => this.#reader.push(chunk));
    socket.on('drain', () => this.#drained());
    const lost = (message: string, cause?: Error): void =>
      this.destroy(new HboneError('hbone/connection-lost', message, { cause }));
    socket.on('error', (error) => lost(error.message, error));
    socket.on('end', () => lost('the peer ended the connection'));
    socket.on('close', () => lost('the connection was closed'));
    this.#watch = this.#startWatch();
    this.#outbox.flush(...greetingOf(role, limits));
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
    if (stream.receiving === 'open') this.#outbox.queue(rstStreamFrame(id, errorCode.none));
    stream.finish();
  }

  #pump(stream: HboneStream): void {
    while (stream.queuedBytes > 0 && !this.#outbox.congested && !this.#closed) {
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
      this.#outbox.data(stream.id, part, last, this.#peerFrameBytes);
    }
    if (stream.queuedBytes > 0) {
      this.#blocked.add(stream);
      return;
    }
    this.#blocked.delete(stream);
    if (stream.sending === 'ending') {
      stream.sending = 'ended';
      this.#outbox.data(stream.id, noBytes, true, this.#peerFrameBytes);
    }
    this.#settle(stream);
  }

  #consumed(stream: HboneStream, bytes: number): void {
    stream.unreturned += bytes;
    if (stream.receiving === 'ended' || stream.unreturned < this.limits.streamWindowBytes / 4)
      return;
    stream.receiveWindow += stream.unreturned;
    this.#outbox.queue(windowUpdateFrame(stream.id, stream.unreturned));
    stream.unreturned = 0;
  }

  #reset(stream: HboneStream, code: number, reason: Error): void {
    this.#outbox.queue(rstStreamFrame(stream.id, code));
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
    this.#outbox.queue(goawayFrame(maxWindow, errorCode.none, ''));
    this.#goawayTimer = setTimeout(() => this.#lastGoaway(this.#lastPeerStream), secondGoawayMs);
    this.#goawayTimer.unref();
  }

  #lastGoaway(lastStream: number): void {
    this.#goaway = 'sent';
    this.#outbox.queue(goawayFrame(lastStream, errorCode.none, ''));
    this.#endIfIdle();
  }

  /** The peer broke the protocol, or its budget: says so and ends. */
  fail(code: number, why: string): void {
    if (this.#closed) return;
    this.#outbox.flush(goawayFrame(this.#lastPeerStream, code, why.slice(0, 100)));
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
    this.#outbox.close();
    this.#watch.stop();
    clearTimeout(this.#goawayTimer);
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

  #startWatch(): SessionWatch {
    return new SessionWatch(this.limits, () => this.streams.size > 0, {
      overdue: (what) => {
        if (what === 'preface') this.fail(errorCode.protocol, 'no preface and SETTINGS in time');
        else this.fail(errorCode.enhanceYourCalm, 'a header block was not finished in time');
      },
      ping: () => this.#outbox.queue(frame(frameType.ping, 0, 0, Buffer.alloc(8))),
      silent: () => this.destroy(silentFor(this.limits.pingTimeoutMs)),
      idle: () => this.drain(),
    });
  }

  #watchIdle(): void {
    if (this.role === 'server' && !this.#closed) this.#watch.streamless();
  }

  #endIfIdle(): void {
    if (this.#closed || this.streams.size > 0) return;
    if (this.#goaway !== 'sent' && !this.#goawayReceived) return;
    this.#outbox.flush();
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
    this.#watch.streamBegun();
    return stream;
  }

  #sendHeaders(id: number, fields: readonly HeaderField[], endStream: boolean): void {
    for (const bytes of headerFrames(id, fields, endStream, this.#peerFrameBytes)) {
      this.#outbox.queue(bytes);
    }
  }

  #drained(): void {
    this.#outbox.drained();
    if (this.#blocked.size === 0) return;
    for (const stream of [...this.#blocked]) {
      if (this.#outbox.congested) break;
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

  #headers(id: number, block: Buffer, endStream: boolean): void {
    this.#watch.headersEnded();
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
      this.#outbox.queue(rstStreamFrame(id, errorCode.refusedStream));
      return false;
    }
    this.#addStream(id);
    return true;
  }

  #data(id: number, chunk: Buffer, padding: number): void {
    const bytes = chunk.length + padding;
    // Given back at once, whoever the bytes are for: a stream that is not read holds only its own window.
    const back = this.#received.take(bytes);
    if (back === undefined) {
      this.fail(errorCode.flowControl, 'the peer wrote beyond the connection window');
      return;
    }
    if (back > 0) this.#outbox.queue(windowUpdateFrame(0, back));
    const stream = this.streams.get(id);
    if (stream === undefined || stream.receiving === 'ended') {
      if (id > this.#lastKnown() || id === 0)
        this.fail(errorCode.protocol, 'DATA on a stream that was never opened');
      else this.#charge(1);
      return;
    }
    stream.receiveWindow -= bytes;
    if (stream.receiveWindow < 0) {
      this.#outbox.queue(rstStreamFrame(id, errorCode.flowControl));
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

  #control(): ControlEvents {
    return {
      charge: (cost) => this.#charge(cost),
      fail: (code, why) => this.fail(code, why),
      settings: (values) => {
        for (const [id, value] of values) this.#setting(id, value);
        this.#outbox.queue(frame(frameType.settings, flag.ack, 0, Buffer.alloc(0)));
      },
      connectionWindow: (increment) => {
        this.#sendWindow += increment;
        if (this.#sendWindow <= maxWindow) this.#drained();
        else this.fail(errorCode.flowControl, 'the connection window overflows');
      },
      streamWindow: (id, increment) => this.#streamWindow(id, increment),
      reset: (id, code) => this.#peerReset(id, code),
      ping: (payload) => this.#outbox.queue(frame(frameType.ping, flag.ack, 0, payload)),
      pingAnswered: () => this.#watch.answered(),
      goaway: (lastTaken) => this.#peerGoesAway(lastTaken),
    };
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

  #streamWindow(id: number, increment: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      this.#charge(1);
      return;
    }
    stream.sendWindow += increment;
    if (stream.sendWindow <= maxWindow) this.#unblock(stream);
    else {
      this.#outbox.queue(rstStreamFrame(id, errorCode.flowControl));
      stream.finish(new HboneError('hbone/protocol', 'the stream window overflows'));
    }
  }

  #unblock(stream: HboneStream): void {
    if (!this.#blocked.has(stream)) return;
    this.#pump(stream);
    stream.writable();
  }

  #peerReset(id: number, code: number): void {
    if (id > this.#lastKnown()) {
      this.fail(errorCode.protocol, malformedReset);
      return;
    }
    // Opening and resetting streams is cheap for the peer and dear for us.
    const stream = this.streams.get(id);
    const cheap = stream?.carried !== true;
    if (this.role === 'server' && cheap && !this.#charge(5)) return;
    if (stream === undefined) return;
    this.#streamLost(stream, resetByPeer(code));
  }

  #streamLost(stream: HboneStream, error: HboneError): void {
    this.#handlers.streamClosed(this, stream.id, error);
    stream.finish(error);
  }

  #peerGoesAway(lastTaken: number): void {
    this.#goawayReceived = true;
    if (this.role === 'client') {
      for (const [id, stream] of [...this.streams]) {
        if (id > lastTaken) this.#streamLost(stream, notTaken());
      }
    }
    this.#handlers.goaway(this);
    this.#endIfIdle();
  }
}
