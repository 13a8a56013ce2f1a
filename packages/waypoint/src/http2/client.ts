import type { ByteStream, Http2Error, Http2Stream, HeaderBlock } from '@ambit/core';
import { Session, errorCode, streamTransport } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type {
  ClientConnection,
  ClientExchange,
  RequestHead,
  ResponseEvents,
  ResponseHead,
} from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import { BodyLength } from './body-length.ts';
import { answerOf, fieldList, lengthOf, malformed, requestList, trailersOf } from './fields.ts';
import { requestLimits } from './limits.ts';

export interface Http2ClientOptions {
  readonly maxStreams: number;
  readonly maxRequests: number;
  readonly idleTimeoutMs: number;
  /** A stream ended: there is room for another. */
  readonly onFree: (connection: Http2ClientConnection) => void;
  readonly onClosed: (connection: Http2ClientConnection) => void;
}

/** What an endpoint may do without answering anything, see `Session.charge`. */
const costOfInformational = 5;
const earnedByRequest = 20;
const earnedByWrite = 4;
/** What is left to say on either side once the answer is whole may take this long. */
const lateEndMs = 5_000;

/** The client's side of one HTTP/2 connection, many requests at a time. */
export class Http2ClientConnection implements ClientConnection {
  readonly protocol = 'HTTP/2';
  readonly #session: Session;
  readonly #options: Http2ClientOptions;
  readonly #exchanges = new Map<number, Exchange>();
  #served = 0;
  #going = false;
  closed = false;

  constructor(stream: ByteStream, options: Http2ClientOptions) {
    this.#options = options;
    const { maxStreams, idleTimeoutMs } = options;
    this.#session = new Session(streamTransport(stream), {
      role: 'client',
      carries: 'requests',
      limits: { ...requestLimits, maxStreams, idleTimeoutMs },
      handlers: {
        headers: (id, block, endStream) => this.#exchanges.get(id)?.headers(block, endStream),
        streamClosed: (id) => this.#freed(id),
        room: () => {
          if (this.free) options.onFree(this);
        },
        goaway: () => (this.#going = true),
        closed: () => {
          this.closed = true;
          options.onClosed(this);
        },
      },
    });
    this.#session.start();
  }

  get active(): number {
    return this.#exchanges.size;
  }

  get free(): boolean {
    return !this.#going && this.#session.open && this.#session.room > 0;
  }

  request(head: RequestHead, hasBody: boolean, events: ResponseEvents): ClientExchange {
    this.#served += 1;
    const session = this.#session;
    if (session.closed) {
      const lost = new HttpError('http2/reset', 503, 'the connection is closed', true);
      setImmediate(() => events.failed(lost));
      return nowhere;
    }
    session.earn(earnedByRequest);
    const stream = session.request(requestList(head), !hasBody);
    const exchange = new Exchange(session, stream, head.method === 'HEAD', events);
    this.#exchanges.set(stream.id, exchange);
    // The last one that this connection may take.
    if (this.#served >= this.#options.maxRequests) this.#going = true;
    return exchange;
  }

  #freed(id: number): void {
    this.#exchanges.delete(id);
    if (this.#going) this.drain();
    if (!this.closed) this.#options.onFree(this);
  }

  drain(): void {
    this.#going = true;
    if (this.active === 0) this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
  }
}

/** Of a request that found its connection closed. */
const nowhere: ClientExchange = {
  write: () => true,
  end: () => undefined,
  pauseBody: () => undefined,
  resumeBody: () => undefined,
  abort: () => undefined,
};

class Exchange implements ClientExchange {
  readonly #session: Session;
  readonly #stream: Http2Stream;
  readonly #isHead: boolean;
  #events: ResponseEvents | undefined;
  #length: BodyLength | undefined;
  #received: HeaderList | undefined;
  #lateEnd: NodeJS.Timeout | undefined;

  constructor(session: Session, stream: Http2Stream, isHead: boolean, events: ResponseEvents) {
    this.#session = session;
    this.#stream = stream;
    this.#isHead = isHead;
    this.#events = events;
    stream.attach({
      data: (chunk) => this.#data(chunk),
      end: () => this.#end(),
      drain: () => this.#events?.drain(),
      close: (error) => this.#closed(error as Http2Error | undefined),
    });
  }

  headers(block: HeaderBlock, endStream: boolean): void {
    try {
      if (block.tooLarge) throw malformed('the head is too large');
      if (this.#length !== undefined) this.#trailers(block, endStream);
      else this.#head(block, endStream);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#broken(error.message);
    }
  }

  #head({ fields }: HeaderBlock, endStream: boolean): void {
    const head = answerOf(fields);
    if (head.status < 200) this.#informational(head, endStream);
    else this.#answer(head, endStream);
  }

  #informational(head: ResponseHead, endStream: boolean): void {
    if (endStream || head.status === 101) throw malformed(`status ${head.status} as an answer`);
    if (!this.#session.charge(costOfInformational) || head.status === 100) return;
    this.#events?.informational(head);
  }

  #answer(head: ResponseHead, endStream: boolean): void {
    const bodiless = this.#isHead || head.status === 204 || head.status === 304;
    const expected = lengthOf(head.headers);
    if (endStream && !bodiless && expected !== undefined && expected > 0) {
      throw malformed('the body is missing');
    }
    this.#length = new BodyLength(bodiless ? 0 : expected);
    const events = this.#events;
    if (bodiless || endStream) this.#events = undefined;
    if (bodiless && !endStream) this.#cutLater();
    events?.response(head, !bodiless && !endStream);
  }

  /** Nobody waits for the end of what is whole already: it may not hold its place for ever. */
  #cutLater(): void {
    this.#lateEnd ??= setTimeout(() => this.#cutRest(), lateEndMs);
  }

  #cutRest(): void {
    if (this.#stream.closed) return;
    this.#stream.reset(errorCode.cancel, new Error('answered before all was asked'));
  }

  #trailers({ fields }: HeaderBlock, endStream: boolean): void {
    if (!endStream) throw malformed('a second head');
    this.#received = trailersOf(fields);
  }

  #data(chunk: Buffer): void {
    if (this.#length === undefined) this.#broken('a body before its head');
    else if (!this.#length.add(chunk.length)) this.#broken('more of a body than its length');
    else this.#events?.data(chunk);
  }

  #end(): void {
    if (this.#length?.whole !== true) {
      this.#broken('the answer is not whole');
      return;
    }
    const events = this.#events;
    this.#events = undefined;
    events?.end(this.#received);
    // Whatever is left of the request is not wanted, and nobody would end it.
    if (this.#stream.sending === 'open') this.#cutRest();
    else if (this.#stream.sending === 'ending') this.#cutLater();
  }

  /** The endpoint talks nonsense. */
  #broken(message: string): void {
    const events = this.#events;
    this.#events = undefined;
    this.#stream.reset(errorCode.protocol, new Error(message));
    events?.failed(new HttpError('http1/malformed', 502, message));
  }

  #closed(error: Http2Error | undefined): void {
    clearTimeout(this.#lateEnd);
    const events = this.#events;
    this.#events = undefined;
    const why = error?.message ?? 'the endpoint ended the stream without an answer';
    events?.failed(new HttpError('http2/reset', 503, why, error?.retryable === true));
  }

  write(chunk: Buffer): boolean {
    this.#session.earn(earnedByWrite);
    return this.#stream.write(chunk);
  }

  end(trailers?: HeaderList): void {
    this.#stream.end(trailers && fieldList(trailers));
  }

  pauseBody(): void {
    this.#stream.pause();
  }

  resumeBody(): void {
    this.#stream.resume();
  }

  abort(): void {
    this.#events = undefined;
    this.#stream.abort(new Error('the request was given up'));
  }
}
