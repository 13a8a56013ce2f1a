import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { connect, constants } from 'node:http2';
import type { ByteStream } from '@ambit/core';
import { duplexOf } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type {
  ClientConnection,
  ClientExchange,
  RequestHead,
  ResponseEvents,
} from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import { fieldsOf, nodeHeaders, trailersOf } from './fields.ts';

export interface Http2ClientOptions {
  readonly maxStreams: number;
  readonly maxRequests: number;
  readonly idleTimeoutMs: number;
  /** A stream ended: there is room for another. */
  readonly onFree: (connection: Http2ClientConnection) => void;
  readonly onClosed: (connection: Http2ClientConnection) => void;
}

/** The client's side of one HTTP/2 connection, many requests at a time. */
export class Http2ClientConnection implements ClientConnection {
  readonly protocol = 'HTTP/2';
  readonly #session: ClientHttp2Session;
  readonly #options: Http2ClientOptions;
  #active = 0;
  #served = 0;
  #going = false;
  closed = false;

  constructor(stream: ByteStream, options: Http2ClientOptions) {
    this.#options = options;
    this.#session = connect('http://endpoint', {
      createConnection: () => duplexOf(stream),
      maxHeaderListPairs: 128,
      settings: { enablePush: false, initialWindowSize: 1024 * 1024, maxHeaderListSize: 60 * 1024 },
    });
    this.#session.on('error', () => this.#session.destroy());
    this.#session.on('goaway', () => (this.#going = true));
    this.#session.on('close', () => {
      this.closed = true;
      options.onClosed(this);
    });
    this.#session.setTimeout(options.idleTimeoutMs, () => {
      if (this.#active === 0) this.drain();
    });
  }

  get active(): number {
    return this.#active;
  }

  get free(): boolean {
    const theirs = this.#session.remoteSettings.maxConcurrentStreams ?? this.#options.maxStreams;
    const room = Math.min(this.#options.maxStreams, theirs) - this.#active;
    return room > 0 && !this.#going && !this.closed && !this.#session.destroyed;
  }

  request(head: RequestHead, hasBody: boolean, events: ResponseEvents): ClientExchange {
    this.#active += 1;
    this.#served += 1;
    const stream = this.#session.request(
      {
        ':method': head.method,
        ':scheme': head.scheme,
        ':authority': head.authority,
        ':path': head.path,
        ...nodeHeaders(head.headers),
      },
      { endStream: !hasBody, waitForTrailers: hasBody },
    );
    // The last one that this connection may take.
    if (this.#served >= this.#options.maxRequests) this.#going = true;
    return new Exchange(stream, head.method === 'HEAD', events, () => {
      this.#active -= 1;
      if (this.#going) this.drain();
      if (!this.closed) this.#options.onFree(this);
    });
  }

  drain(): void {
    this.#going = true;
    // Only now: GOAWAY overtakes a request that has just been made, and the endpoint would refuse that.
    if (this.#active === 0 && !this.#session.closed) this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
  }
}

class Exchange implements ClientExchange {
  readonly #stream: ClientHttp2Stream;
  #events: ResponseEvents | undefined;
  #trailers: HeaderList | undefined;
  #received: HeaderList | undefined;
  #ended = false;

  constructor(
    stream: ClientHttp2Stream,
    isHead: boolean,
    events: ResponseEvents,
    over: () => void,
  ) {
    this.#stream = stream;
    this.#events = events;
    stream.on('headers', (headers, _flags, raw?: readonly string[]) => {
      const status = Number(headers[':status']);
      if (status !== 100)
        this.#told((one) => one.informational({ status, headers: fieldsOf(raw ?? []) }));
    });
    stream.on('response', (headers, flags, raw?: readonly string[]) => {
      const status = Number(headers[':status']);
      const bodiless = isHead || status === 204 || status === 304;
      const hasBody = !bodiless && (flags & constants.NGHTTP2_FLAG_END_STREAM) === 0;
      if (!hasBody) this.#ended = true;
      this.#told((one) => one.response({ status, headers: fieldsOf(raw ?? []) }, hasBody));
      if (!hasBody) {
        // The end of the stream may come by itself, without a byte.
        stream.resume();
        return;
      }
      // Only now: over a stream of JavaScript the bytes would be here before the word of their head.
      stream.on('data', (chunk: Buffer) => this.#events?.data(chunk));
    });
    stream.on('trailers', (_headers, _flags, raw?: readonly string[]) => {
      this.#told(() => (this.#received = trailersOf(raw ?? [])));
    });
    stream.on('end', () => {
      if (this.#ended) return;
      // A stream that is reset ends too, for Node; only an end without an error is one.
      if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) return;
      this.#ended = true;
      this.#events?.end(this.#received);
    });
    stream.on('drain', () => this.#events?.drain());
    stream.on('wantTrailers', () => {
      stream.sendTrailers(this.#trailers === undefined ? {} : nodeHeaders(this.#trailers));
    });
    stream.on('error', () => undefined);
    stream.on('close', () => {
      over();
      if (!this.#ended) this.#failed(stream.rstCode);
      this.#events = undefined;
    });
  }

  #failed(code: number): void {
    const refused = code === constants.NGHTTP2_REFUSED_STREAM;
    this.#events?.failed(
      new HttpError('http2/reset', 503, `the endpoint reset the stream (${code})`, refused),
    );
  }

  #told(what: (events: ResponseEvents) => void): void {
    if (this.#events === undefined) return;
    try {
      what(this.#events);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      const events = this.#events;
      this.#events = undefined;
      this.#stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      events.failed(new HttpError('http1/malformed', 502, error.message));
    }
  }

  write(chunk: Buffer): boolean {
    return this.#stream.destroyed || this.#stream.write(chunk);
  }

  end(trailers?: HeaderList): void {
    this.#trailers = trailers;
    if (!this.#stream.destroyed) this.#stream.end();
  }

  pauseBody(): void {
    this.#stream.pause();
  }

  resumeBody(): void {
    if (!this.#stream.destroyed) this.#stream.resume();
  }

  abort(): void {
    this.#events = undefined;
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }
}
