import type { ByteStream, Http2Error, Http2Stream, HeaderBlock, SessionLimits } from '@ambit/core';
import { Session, errorCode, streamTransport } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type {
  BodySink,
  ExchangeEvents,
  RequestHead,
  ResponseHead,
  ServerExchange,
} from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import { BodyLength } from './body-length.ts';
import { answerList, fieldList, lengthOf, malformed, requestOf, trailersOf } from './fields.ts';
import { requestLimits } from './limits.ts';

/** Times of one connection; see `Http1Limits`. */
export interface Http2Limits {
  readonly headTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly stallTimeoutMs: number;
}

export interface Http2ServerHandlers {
  onRequest(exchange: ServerExchange): void;
  onMalformed(error: HttpError): void;
}

/** A connection of HTTP/2 to be drained. */
export interface Http2ServerConnection {
  drain(): void;
  closeIdle(): void;
  readonly closed: boolean;
}

/** What a request costs that is none, one that is far too large, and what work that was wanted gives back. */
const costs = { malformed: 5, tooLarge: 50 };
const earnedByAnswer = 20;
const earnedByWrite = 4;

/** Serves HTTP/2 with prior knowledge on a byte stream. */
export function serveHttp2(
  stream: ByteStream,
  limits: Http2Limits,
  handlers: Http2ServerHandlers,
  onClosed: (connection: Http2ServerConnection) => void,
): Http2ServerConnection {
  const connection = new Connection(stream, limits, handlers, onClosed);
  connection.start();
  return connection;
}

class Connection implements Http2ServerConnection {
  readonly #session: Session;
  readonly #handlers: Http2ServerHandlers;
  readonly #onClosed: (connection: Http2ServerConnection) => void;
  readonly #exchanges = new Map<number, Exchange>();
  readonly #watch: NodeJS.Timeout;
  #draining = false;
  #used = false;

  constructor(
    stream: ByteStream,
    { headTimeoutMs, idleTimeoutMs, stallTimeoutMs }: Http2Limits,
    handlers: Http2ServerHandlers,
    onClosed: (connection: Http2ServerConnection) => void,
  ) {
    this.#handlers = handlers;
    this.#onClosed = onClosed;
    const limits: SessionLimits = {
      ...requestLimits,
      prefaceTimeoutMs: headTimeoutMs,
      headerTimeoutMs: headTimeoutMs,
      idleTimeoutMs,
    };
    this.#session = new Session(streamTransport(stream), {
      role: 'server',
      carries: 'requests',
      limits,
      handlers: {
        headers: (id, block, endStream) => this.#headers(id, block, endStream),
        streamClosed: (id, error) => {
          this.#exchanges.get(id)?.closed(error);
          this.#exchanges.delete(id);
        },
        goaway: () => undefined,
        closed: (error) => this.#closed(error),
      },
    });
    // One timer for each connection: one for each stream would be dear.
    const look = (): void => {
      const nowMs = performance.now();
      for (const exchange of this.#exchanges.values()) exchange.look(nowMs, stallTimeoutMs);
    };
    this.#watch = setInterval(look, Math.max(10, Math.min(stallTimeoutMs, headTimeoutMs) / 8));
    this.#watch.unref();
  }

  start(): void {
    this.#session.start();
  }

  get closed(): boolean {
    return this.#session.closed;
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    // A client that is told to go before its first request is on its way takes that for refused.
    if (this.#used) this.#session.drain();
  }

  closeIdle(): void {
    this.#session.close();
  }

  #closed(error: Http2Error | undefined): void {
    clearInterval(this.#watch);
    if (error?.code === 'http2/protocol') {
      this.#handlers.onMalformed(new HttpError('http2/protocol', 0, error.message));
    }
    this.#onClosed(this);
  }

  #headers(id: number, block: HeaderBlock, endStream: boolean): void {
    const known = this.#exchanges.get(id);
    if (known !== undefined) {
      known.trailers(block);
      return;
    }
    this.#take(id, block, endStream);
    if (this.#draining && !this.#used) this.#session.drain();
    this.#used = true;
  }

  #take(id: number, block: HeaderBlock, endStream: boolean): void {
    const stream = this.#session.streams.get(id);
    if (stream === undefined) return;
    let exchange: Exchange;
    try {
      if (block.tooLarge) throw new HttpError('http2/too-large', 431, 'the head is too large');
      exchange = new Exchange(this.#session, stream, requestOf(block.fields), !endStream);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#handlers.onMalformed(error);
      const cost = block.tooLarge ? costs.tooLarge : costs.malformed;
      if (this.#session.charge(cost)) this.#session.refuse(id, [':status', String(error.status)]);
      return;
    }
    this.#exchanges.set(id, exchange);
    this.#handlers.onRequest(exchange);
  }
}

function clientGone(error: Http2Error | undefined): HttpError {
  return new HttpError('http2/client-gone', 0, error?.message ?? 'the client is gone');
}

class Exchange implements ServerExchange {
  readonly request: RequestHead;
  readonly hasBody: boolean;
  readonly #session: Session;
  readonly #stream: Http2Stream;
  readonly #length: BodyLength;
  #received: HeaderList | undefined;
  #answering = false;
  #over = false;
  #watcher: ((error: HttpError) => void) | undefined;
  /** What the last look saw of the bytes that had left. */
  #seen = -1;
  #seenAtMs = 0;

  constructor(session: Session, stream: Http2Stream, request: RequestHead, hasBody: boolean) {
    this.#session = session;
    this.#stream = stream;
    this.request = request;
    this.hasBody = hasBody;
    const expected = lengthOf(request.headers);
    if (!hasBody && expected !== undefined && expected > 0) throw malformed('the body is missing');
    this.#length = new BodyLength(expected);
  }

  attach(events: ExchangeEvents, body: BodySink): void {
    this.#stream.attach({
      data: (chunk) => {
        if (this.#length.add(chunk.length)) body.data(chunk);
        else this.#broken('more of a body than its length');
      },
      end: () => {
        if (this.#length.whole) body.end(this.#received);
        else this.#broken('less of a body than its length');
      },
      drain: () => events.drain(),
      close: (error) => {
        if (this.#over) return;
        this.#over = true;
        events.gone(clientGone(error as Http2Error | undefined));
      },
    });
    // Only now is the body wanted: whoever was refused never sent it.
    if (this.request.expectContinue && this.hasBody) {
      this.#session.inform(this.#stream.id, [':status', '100']);
    }
  }

  /** The fields behind the body, before its end is told. */
  trailers(block: HeaderBlock): void {
    try {
      if (block.tooLarge) throw malformed('too many trailers');
      this.#received = trailersOf(block.fields);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#broken(error.message);
    }
  }

  #broken(message: string): void {
    if (!this.#session.charge(costs.malformed)) return;
    this.#stream.reset(errorCode.protocol, new Error(message));
  }

  /** The stream is over. */
  closed(error: Http2Error | undefined): void {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    if (!this.#over) watcher?.(clientGone(error));
  }

  get gone(): boolean {
    return this.#over || this.#stream.closed;
  }

  watch(gone: ((error: HttpError) => void) | undefined): void {
    this.#watcher = gone;
  }

  /** Ends a stream whose client does not read; one on which nobody has anything to say may live. */
  look(nowMs: number, stallTimeoutMs: number): void {
    const { sentBytes, queuedBytes } = this.#stream;
    if (sentBytes !== this.#seen || queuedBytes === 0) {
      this.#seen = sentBytes;
      this.#seenAtMs = nowMs;
    } else if (nowMs - this.#seenAtMs > stallTimeoutMs) {
      this.#stream.abort(new Error('the client does not read'));
    }
  }

  pauseBody(): void {
    this.#stream.pause();
  }

  resumeBody(): void {
    this.#stream.resume();
  }

  inform(head: ResponseHead): void {
    if (this.#answering || head.status === 101) return;
    this.#session.inform(this.#stream.id, answerList(head));
  }

  respond(head: ResponseHead, hasBody: boolean): void {
    if (this.#answering || this.#stream.closed) return;
    this.#answering = true;
    if (!hasBody) this.#answered();
    this.#session.respond(this.#stream.id, answerList(head), !hasBody);
  }

  #answered(): void {
    this.#over = true;
    this.#session.earn(earnedByAnswer);
  }

  write(chunk: Buffer): boolean {
    this.#session.earn(earnedByWrite);
    return this.#stream.write(chunk);
  }

  end(trailers?: HeaderList): void {
    if (this.#over || this.#stream.closed) return;
    this.#answered();
    this.#stream.end(trailers && fieldList(trailers));
  }

  upgrade(): undefined {
    return undefined;
  }

  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.reset(errorCode.internal, new Error('the answer cannot be ended'));
  }
}
