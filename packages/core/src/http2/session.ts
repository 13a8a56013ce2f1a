import { Budget } from './budget.ts';
import type { ControlEvents } from './control-frames.ts';
import { malformedReset, readControlFrame } from './control-frames.ts';
import { Http2Error, notTaken, resetByPeer, silentFor } from './errors.ts';
import { FrameReader } from './frame-reader.ts';
import {
  defaultFrameBytes,
  errorCode,
  flag,
  frame,
  frameType,
  goawayFrame,
  maxWindow,
  setting,
  windowUpdateFrame,
} from './frames.ts';
import type { HeaderBlock } from './hpack-decoder.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import type { FieldList } from './hpack-table.ts';
import { dynamicTableBytes } from './hpack-table.ts';
import type { SessionLimits } from './limits.ts';
import { controlBurst, controlPerSecond, costs, lingerMs, secondGoawayMs } from './limits.ts';
import { greetingOf, lastWordPing, plainPing, settingsAck } from './messages.ts';
import { Outbox } from './outbox.ts';
import { ReceiveWindow } from './receive-window.ts';
import { SendSide } from './send-side.ts';
import type { SessionHandlers, SessionOptions } from './session-options.ts';
import { SessionWatch } from './session-watch.ts';
import type { StreamHost } from './stream.ts';
import { Http2Stream } from './stream.ts';
import type { SessionTransport } from './transport.ts';

/** One HTTP/2 connection (RFC 9113), the same code on both sides. It begins with `start`. */
export class Session {
  readonly limits: SessionLimits;
  readonly streams = new Map<number, Http2Stream>();
  readonly #isServer: boolean;
  readonly #isTunnels: boolean;
  readonly #transport: SessionTransport;
  readonly #handlers: SessionHandlers;
  readonly #reader: FrameReader;
  readonly #decoder: HpackDecoder;
  readonly #budget = new Budget(controlBurst, controlPerSecond, performance.now());
  readonly #outbox: Outbox;
  readonly #sends: SendSide;
  readonly #watch: SessionWatch;
  readonly #received: ReceiveWindow;
  /** What all streams ask of this session. */
  readonly #host: StreamHost = {
    pump: (stream) => this.#sends.pump(stream),
    consumed: (stream, bytes) => this.#consumed(stream, bytes),
    reset: (stream, code, reason) => {
      this.#sends.reset(stream.id, code);
      stream.finish(new Http2Error('http2/aborted', reason.message, { cause: reason }));
    },
    closed: (stream, error) => this.#closedStream(stream, error),
  };
  #peerMaxStreams = Number.POSITIVE_INFINITY;
  #lastPeerStream = 0;
  #nextStream = 1;
  /** `warned` says that the end is near; only `sent` names the last stream that is taken. */
  #goaway: 'none' | 'warned' | 'sent' = 'none';
  #goawayTimer: NodeJS.Timeout | undefined;
  #goawayReceived = false;
  #closed = false;

  constructor(transport: SessionTransport, { role, carries, limits, handlers }: SessionOptions) {
    this.limits = limits;
    this.#isServer = role === 'server';
    this.#isTunnels = carries === 'tunnels';
    this.#transport = transport;
    this.#handlers = handlers;
    this.#received = new ReceiveWindow(limits.connectionWindowBytes);
    this.#decoder = new HpackDecoder(limits.headers);
    const overfull = (): void => this.fail(errorCode.enhanceYourCalm, 'the peer does not read');
    const left = (room: boolean): void => {
      if (room) this.#sends.drained();
    };
    this.#outbox = new Outbox(transport, left, overfull);
    const tableBytes = this.#isTunnels ? 0 : dynamicTableBytes;
    this.#sends = new SendSide(this.#outbox, tableBytes, (stream) => this.#settle(stream));
    const control = this.#control();
    this.#reader = new FrameReader(this.#isServer, limits, {
      frame: ({ type, flags, stream }, payload) =>
        readControlFrame(type, flags, stream, payload, control),
      data: (stream, chunk, padding) => this.#data(stream, chunk, padding),
      dataEnd: (stream, flags, bytes) => this.#dataEnd(stream, flags, bytes),
      headers: (stream, block, endStream) => this.#headers(stream, block, endStream),
      headersBegun: () => this.#watch.headersBegun(),
      settled: () => this.#watch.settled(),
      violation: (code, why) => this.fail(code, why),
    });
    this.#watch = this.#startWatch();
  }

  /** Greets, and takes what the peer has sent. */
  start(): void {
    const { limits } = this;
    this.#outbox.flush(...greetingOf(this.#isServer ? 'server' : 'client', limits));
    this.#watchIdle();
    this.#transport.attach({
      data: (chunk) => this.#reader.push(chunk),
      drain: () => this.#sends.drained(),
      over: (message, cause) =>
        this.destroy(new Http2Error('http2/connection-lost', message, { cause })),
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** True while another stream may be opened here. */
  get open(): boolean {
    const goes = this.#goawayReceived || this.#goaway !== 'none';
    return !this.#closed && !goes && this.#nextStream < maxWindow;
  }

  get room(): number {
    return Math.min(this.limits.maxStreams, this.#peerMaxStreams) - this.streams.size;
  }

  /** Client: opens a stream with a request. */
  request(fields: FieldList, endStream = false): Http2Stream {
    const id = this.#nextStream;
    this.#nextStream += 2;
    const stream = this.#addStream(id);
    if (endStream) stream.sending = 'ended';
    this.#sends.headers(id, fields, endStream);
    return stream;
  }

  /** Server: begins the answer to a request; undefined where its stream is over. */
  respond(id: number, fields: FieldList, endStream = false): Http2Stream | undefined {
    const stream = this.streams.get(id);
    if (stream?.sending !== 'open') return undefined;
    this.#sends.headers(id, fields, endStream);
    if (endStream) {
      stream.sending = 'ended';
      this.#settle(stream);
    }
    return stream;
  }

  /** Server: says something before the answer (status 100 to 199). */
  inform(id: number, fields: FieldList): void {
    if (this.streams.get(id)?.sending === 'open') this.#sends.headers(id, fields, false);
  }

  /** Server: answers and ends the stream; the session stays. */
  refuse(id: number, fields: FieldList): void {
    const stream = this.respond(id, fields, true);
    if (stream === undefined || stream.closed) return;
    this.#cutRest(stream);
    stream.finish();
  }

  /** Takes something of the peer's budget; false when it was used up, and the session is over. */
  charge(cost: number): boolean {
    this.#budget.earn(this.#sends.takeEarned());
    if (this.#budget.spend(cost, performance.now())) return true;
    this.fail(errorCode.enhanceYourCalm, 'too many frames that carry nothing');
    return false;
  }

  /** Gives the peer something back for what turned out to be honest work. */
  earn(tokens: number): void {
    this.#budget.earn(tokens);
  }

  /**
   * GOAWAY: no new streams; what is open goes on, and the session ends with the last of it. A server says it twice
   * (RFC 9113 §6.8): a stream that was opened before the first one arrived is still taken.
   */
  drain(): void {
    if (this.#goaway !== 'none' || this.#closed) return;
    if (!this.#isServer) {
      this.#lastGoaway();
      return;
    }
    this.#goaway = 'warned';
    this.#outbox.queue(goawayFrame(maxWindow, errorCode.none, ''));
    // Who answers this has read the first one, and what was sent before that has come.
    this.#outbox.queue(frame(frameType.ping, 0, 0, lastWordPing));
    this.#goawayTimer = setTimeout(() => this.#lastGoaway(), secondGoawayMs);
    this.#goawayTimer.unref();
  }

  /** The same without a warning: for a session on which nothing is on its way. */
  close(): void {
    if (!this.#closed) this.#lastGoaway();
  }

  #lastGoaway(): void {
    if (this.#goaway === 'sent' || this.#closed) return;
    clearTimeout(this.#goawayTimer);
    this.#goaway = 'sent';
    this.#outbox.queue(goawayFrame(this.#isServer ? this.#lastPeerStream : 0, errorCode.none, ''));
    this.#endIfIdle();
  }

  /** The peer broke the protocol, or its budget: says so and ends. */
  fail(code: number, why: string): void {
    if (this.#closed) return;
    // Whoever is told that there is room must not write behind the last word.
    this.#outbox.close();
    this.#outbox.flush(goawayFrame(this.#lastPeerStream, code, why.slice(0, 100)));
    this.#transport.end();
    this.destroy(new Http2Error('http2/protocol', why));
  }

  destroy(error?: Http2Error): void {
    if (this.#closed) return;
    this.#stopped();
    for (const stream of [...this.streams.values()]) {
      stream.finish(error ?? new Http2Error('http2/connection-lost', 'the session was closed'));
    }
    // A moment for a last GOAWAY to leave; then whatever is left is dropped.
    this.#transport.drop(100, 'at-once-if-written');
    this.#handlers.closed(error);
  }

  #stopped(): void {
    this.#closed = true;
    this.#reader.stop();
    this.#outbox.close();
    this.#watch.stop();
    clearTimeout(this.#goawayTimer);
  }

  #closedStream(stream: Http2Stream, error: Http2Error | undefined): void {
    this.streams.delete(stream.id);
    this.#sends.forget(stream);
    this.#handlers.streamClosed(stream.id, error);
    if (this.streams.size === 0) this.#watchIdle();
    this.#endIfIdle();
  }

  #startWatch(): SessionWatch {
    return new SessionWatch(this.limits, () => this.streams.size > 0, {
      overdue: (what) => {
        if (what === 'preface') this.fail(errorCode.protocol, 'no preface and SETTINGS in time');
        else this.fail(errorCode.enhanceYourCalm, 'a header block was not finished in time');
      },
      ping: () => this.#outbox.queue(frame(frameType.ping, 0, 0, plainPing)),
      silent: () => this.destroy(silentFor(this.limits.pingTimeoutMs)),
      idle: () => this.drain(),
    });
  }

  #watchIdle(): void {
    // A pool ends the idle tunnels of a client.
    if (!this.#closed && (this.#isServer || !this.#isTunnels)) this.#watch.streamless();
  }

  #endIfIdle(): void {
    if (this.#closed || this.streams.size > 0) return;
    if (this.#goaway !== 'sent' && !this.#goawayReceived) return;
    this.#outbox.flush();
    this.#stopped();
    // The peer may still have to read the tail of the last stream, and closing before it has would cut that off.
    this.#transport.drop(lingerMs, 'when-peer-ends');
    this.#transport.end();
    this.#handlers.closed(undefined);
  }

  #addStream(id: number): Http2Stream {
    const { streamWindow } = this.#sends;
    const stream = new Http2Stream(this.#host, id, streamWindow, this.limits.streamWindowBytes);
    this.streams.set(id, stream);
    this.#watch.streamBegun();
    return stream;
  }

  #consumed(stream: Http2Stream, bytes: number): void {
    this.#giveUnread(bytes);
    stream.unreturned += bytes;
    const due = stream.unreturned >= this.limits.streamWindowBytes / 4;
    if (stream.closed || stream.receiving === 'ended' || !due) return;
    stream.receiveWindow += stream.unreturned;
    this.#outbox.queue(windowUpdateFrame(stream.id, stream.unreturned));
    stream.unreturned = 0;
  }

  #giveBack(bytes: number): void {
    const back = this.#received.give(bytes);
    if (back > 0) this.#outbox.queue(windowUpdateFrame(0, back));
  }

  /** All of our side was sent: with the other side ended, the stream is over. */
  #settle(stream: Http2Stream): void {
    if (stream.sending !== 'ended') return;
    const answered = this.#isServer && !this.#isTunnels;
    if (stream.receiving === 'open' && !answered) return;
    if (answered) this.#cutRest(stream);
    stream.finish();
  }

  /** The answer is whole: whatever is left of the request is of no use to anybody (RFC 9113 §8.1). */
  #cutRest(stream: Http2Stream): void {
    if (stream.receiving === 'open') this.#sends.reset(stream.id, errorCode.none);
    else stream.dropUnread();
  }

  /** The peer broke the rules of one stream. */
  #violated(stream: Http2Stream, code: number, why: string): void {
    if (!this.charge(costs.reset)) return;
    this.#sends.reset(stream.id, code);
    stream.finish(new Http2Error('http2/protocol', why));
  }

  #headers(id: number, bytes: Buffer, endStream: boolean): void {
    this.#watch.headersEnded();
    let block: HeaderBlock;
    try {
      block = this.#decoder.decode(bytes);
    } catch (error) {
      const why = error instanceof Error ? error.message : 'malformed header block';
      this.fail(errorCode.compression, why);
      return;
    }
    if (block.tooLarge && this.#isTunnels) {
      this.fail(errorCode.compression, 'the header list is too long');
      return;
    }
    const stream = this.#isServer ? this.#requested(id, endStream) : this.#answered(id);
    if (stream === undefined) return;
    if (endStream) stream.receiving = 'ended';
    this.#handlers.headers(id, block, endStream);
    if (!endStream || stream.closed) return;
    stream.deliver();
    this.#settle(stream);
  }

  /** Server: the stream of a block, a new one or one whose trailers these are. */
  #requested(id: number, endStream: boolean): Http2Stream | undefined {
    const known = this.streams.get(id);
    if (known !== undefined) return this.#trailers(known, endStream);
    if (id % 2 === 0 || (this.#isTunnels && id <= this.#lastPeerStream)) {
      this.fail(errorCode.protocol, `stream ${id} is not a new one`);
      return undefined;
    }
    if (id <= this.#lastPeerStream) {
      // Trailers may have been on their way to a stream that was answered before it was heard out.
      this.charge(costs.oldStream);
      return undefined;
    }
    this.#lastPeerStream = id;
    if (!this.charge(costs.stream)) return undefined;
    if (this.#goaway === 'sent' || this.streams.size >= this.limits.maxStreams) {
      this.#sends.reset(id, errorCode.refusedStream);
      return undefined;
    }
    return this.#addStream(id);
  }

  #trailers(stream: Http2Stream, endStream: boolean): Http2Stream | undefined {
    if (this.#isTunnels) {
      this.fail(errorCode.protocol, 'a CONNECT stream has no trailers');
    } else if (stream.receiving === 'ended') {
      this.#violated(stream, errorCode.streamClosed, 'a header block behind the end of a stream');
    } else if (!endStream) {
      this.#violated(stream, errorCode.protocol, 'trailers that do not end the stream');
    } else return stream;
    return undefined;
  }

  #answered(id: number): Http2Stream | undefined {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (id % 2 === 0 || id > this.#lastKnown()) {
        this.fail(errorCode.protocol, 'an answer to nothing');
      } else this.charge(costs.strayFrame);
      return undefined;
    }
    if (stream.receiving === 'open') return stream;
    this.#violated(stream, errorCode.streamClosed, 'a header block behind the end of a stream');
    return undefined;
  }

  #data(id: number, chunk: Buffer, padding: number): void {
    const bytes = chunk.length + padding;
    if (!this.#received.take(bytes)) {
      this.fail(errorCode.flowControl, 'the peer wrote beyond the connection window');
      return;
    }
    const stream = this.streams.get(id);
    const wanted = stream?.receiving === 'open';
    if (!wanted || this.limits.connectionCredit === 'at-once') this.#giveBack(bytes);
    if (!wanted) {
      if (id > this.#lastKnown() || id === 0)
        this.fail(errorCode.protocol, 'DATA on a stream that was never opened');
      else this.charge(costs.strayFrame);
      return;
    }
    stream.receiveWindow -= bytes;
    if (stream.receiveWindow < 0) {
      this.#giveUnread(bytes);
      this.#violated(stream, errorCode.flowControl, 'the peer wrote beyond the stream window');
      return;
    }
    if (padding > 0) this.#consumed(stream, padding);
    if (chunk.length === 0) return;
    // A tunnel that carries bytes is a connection, however short: it has earned its opening.
    if (this.#isTunnels && !stream.carried) this.#budget.earn(1);
    stream.carried = true;
    stream.receive(chunk);
  }

  #giveUnread(bytes: number): void {
    if (this.limits.connectionCredit === 'when-read') this.#giveBack(bytes);
  }

  #dataEnd(id: number, flags: number, bytes: number): void {
    const ends = (flags & flag.endStream) !== 0;
    if (bytes === 0 && !ends && !this.charge(costs.emptyData)) return;
    const stream = ends ? this.streams.get(id) : undefined;
    if (stream?.receiving !== 'open') return;
    stream.receiving = 'ended';
    stream.deliver();
    this.#settle(stream);
  }

  #lastKnown(): number {
    return this.#isServer ? this.#lastPeerStream : this.#nextStream - 2;
  }

  #control(): ControlEvents {
    return {
      charge: (cost) => this.charge(cost),
      fail: (code, why) => this.fail(code, why),
      settings: (values) => {
        const before = this.room;
        for (const [id, value] of values) this.#setting(id, value);
        this.#outbox.queue(settingsAck);
        if (this.room > before) this.#handlers.room?.();
      },
      connectionWindow: (increment) => {
        if (!this.#sends.widen(increment))
          this.fail(errorCode.flowControl, 'the connection window overflows');
      },
      streamWindow: (id, increment) => this.#streamWindow(id, increment),
      reset: (id, code) => this.#peerReset(id, code),
      ping: (payload) => this.#outbox.queue(frame(frameType.ping, flag.ack, 0, payload)),
      pingAnswered: (payload) => {
        this.#watch.answered();
        if (this.#goaway === 'warned' && payload.equals(lastWordPing)) this.#lastGoaway();
      },
      goaway: (lastTaken) => this.#peerGoesAway(lastTaken),
    };
  }

  #setting(id: number, value: number): void {
    if (id === setting.maxFrameSize && value >= defaultFrameBytes) {
      this.#sends.frameBytes = Math.min(value, this.limits.maxFrameBytes);
    } else if (id === setting.maxConcurrentStreams) {
      this.#peerMaxStreams = value;
    } else if (id === setting.headerTableSize) {
      this.#sends.setTableBytes(value);
    } else if (id === setting.initialWindowSize) {
      if (value > maxWindow) this.fail(errorCode.flowControl, 'the initial window is too large');
      else this.#sends.setStreamWindow(value, this.streams.values());
    }
  }

  #streamWindow(id: number, increment: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined) this.charge(costs.strayFrame);
    else if (!this.#sends.widenStream(stream, increment))
      this.#violated(stream, errorCode.flowControl, 'the stream window overflows');
  }

  #peerReset(id: number, code: number): void {
    if (id > this.#lastKnown()) {
      this.fail(errorCode.protocol, malformedReset);
      return;
    }
    // Opening and resetting streams is cheap for the peer and dear for us.
    const stream = this.streams.get(id);
    const cheap = !this.#isTunnels || stream?.carried !== true;
    if (this.#isServer && cheap && !this.charge(costs.reset)) return;
    if (stream === undefined) {
      if (!this.#isServer) this.charge(costs.strayFrame);
      return;
    }
    // A whole answer stays one, whatever becomes of the rest of the request.
    const answered = !this.#isServer && !this.#isTunnels && stream.receiving === 'ended';
    stream.finish(answered ? undefined : resetByPeer(code));
  }

  #peerGoesAway(lastTaken: number): void {
    this.#goawayReceived = true;
    if (!this.#isServer) {
      for (const [id, stream] of [...this.streams]) if (id > lastTaken) stream.finish(notTaken());
    }
    this.#handlers.goaway();
    this.#endIfIdle();
  }
}
