import type { ServerHttp2Stream } from 'node:http2';
import { constants, performServerHandshake } from 'node:http2';
import type { ByteStream } from '@ambit/core';
import { duplexOf } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import type {
  BodySink,
  ExchangeEvents,
  RequestHead,
  ResponseHead,
  ServerExchange,
} from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import { fieldsOf, nodeHeaders, trailersOf } from './fields.ts';
import { FrameMeter } from './meter.ts';
import { MeteredStream } from './metered.ts';

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

const authorityForm = /^(?:[a-z0-9._~!$&'()*+,;=-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;

// Tighter than Node's own: a peer that does any of this is no client of ours (security.md T14).
const options = {
  maxSessionInvalidFrames: 100,
  maxSessionRejectedStreams: 100,
  maxSettings: 32,
  maxOutstandingPings: 10,
  maxHeaderListPairs: 128,
  maxSessionMemory: 10,
  streamResetBurst: 500,
  streamResetRate: 33,
  unknownProtocolTimeout: 5_000,
  settings: {
    maxConcurrentStreams: 100,
    initialWindowSize: 1024 * 1024,
    maxHeaderListSize: 60 * 1024,
    enablePush: false,
  },
};

/** Serves HTTP/2 with prior knowledge on a byte stream. */
export function serveHttp2(
  stream: ByteStream,
  limits: Http2Limits,
  handlers: Http2ServerHandlers,
  onClosed: (connection: Http2ServerConnection) => void,
): Http2ServerConnection {
  const meter = new FrameMeter(performance.now());
  const cut = (code: string, message: string): void => {
    if (session.destroyed) return;
    handlers.onMalformed(new HttpError(code, 0, message));
    session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    stream.abort(new Error(message));
  };
  const flooded = (): void => cut('http2/flood', 'too many frames that carry nothing');
  const socket = duplexOf(new MeteredStream(stream, meter, flooded));
  const session = performServerHandshake(socket, options);
  const exchanges = new Set<Exchange>();
  let closed = false;
  let draining = false;
  let used = false;
  const goAway = (): void => {
    // Twice, as RFC 9113 §6.8 has it: what is under way when the first arrives is still taken.
    session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1);
    const last = (): void => {
      clearTimeout(late);
      if (!session.destroyed) session.close();
    };
    // Who answers the ping has read the first one, and what was sent before that has come.
    const late = setTimeout(last, maxGoawayMs);
    late.unref();
    session.ping(last);
  };
  const connection: Http2ServerConnection = {
    drain: () => {
      if (session.destroyed || draining) return;
      draining = true;
      // A client that is told to go before its first request is on its way takes that for refused.
      if (used) goAway();
    },
    closeIdle: () => session.close(),
    get closed() {
      return closed;
    },
  };
  socket.on('error', () => undefined);
  session.on('error', () => session.destroy());
  const watch = watchTimes(limits, meter, exchanges, {
    slow: () => cut('http2/slow-head', 'a head did not come in time'),
    idle: () => session.close(),
  });
  session.on('close', () => {
    closed = true;
    clearInterval(watch);
    onClosed(connection);
  });
  session.on('stream', (opened, _headers, _flags, raw?: readonly string[]) => {
    const exchange = take(opened, raw ?? [], meter, handlers);
    if (exchange !== undefined) exchanges.add(exchange);
    if (draining && !used) goAway();
    used = true;
    opened.on('close', () => {
      if (exchange !== undefined) exchanges.delete(exchange);
      if (opened.rstCode === constants.NGHTTP2_NO_ERROR || exchange?.aborted === true) return;
      if (!meter.reset(performance.now())) flooded();
    });
  });
  return connection;
}

/** One timer for each connection: nghttp2 knows no time, and a timer for each stream would be dear. */
function watchTimes(
  { headTimeoutMs, idleTimeoutMs, stallTimeoutMs }: Http2Limits,
  meter: FrameMeter,
  exchanges: ReadonlySet<Exchange>,
  on: { readonly slow: () => void; readonly idle: () => void },
): NodeJS.Timeout {
  let busyAtMs = performance.now();
  const timer = setInterval(
    () => {
      const nowMs = performance.now();
      if (
        meter.unfinishedSinceMs !== undefined &&
        nowMs - meter.unfinishedSinceMs > headTimeoutMs
      ) {
        on.slow();
        return;
      }
      for (const exchange of exchanges) exchange.look(nowMs, stallTimeoutMs);
      if (exchanges.size > 0) busyAtMs = nowMs;
      else if (nowMs - busyAtMs > idleTimeoutMs) on.idle();
    },
    Math.max(10, headTimeoutMs / 8),
  );
  return timer.unref();
}

const maxGoawayMs = 5_000;

function take(
  stream: ServerHttp2Stream,
  raw: readonly string[],
  meter: FrameMeter,
  handlers: Http2ServerHandlers,
): Exchange | undefined {
  stream.on('error', () => undefined);
  try {
    const exchange = new Exchange(stream, headOf(raw), !stream.endAfterHeaders, meter);
    handlers.onRequest(exchange);
    return exchange;
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    handlers.onMalformed(error);
    stream.respond({ ':status': error.status }, { endStream: true });
    return undefined;
  }
}

function headOf(raw: readonly string[]): RequestHead {
  const pseudo = new Map<string, string>();
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    if (name.startsWith(':')) pseudo.set(name, raw[at + 1] ?? '');
  }
  const headers = fieldsOf(raw);
  const method = pseudo.get(':method') ?? '';
  if (method === 'CONNECT') throw new HttpError('http2/connect', 405, 'CONNECT is not served here');
  const authority = authorityOf(pseudo.get(':authority'), headers.get('host'));
  const path = pseudo.get(':path') ?? '';
  if (!pathForm.test(path)) throw malformed('no good :path');
  const expectContinue = headers.get('expect')?.toLowerCase() === '100-continue';
  headers.delete('host');
  headers.delete('expect');
  return {
    method,
    scheme: (pseudo.get(':scheme') ?? 'http').toLowerCase(),
    authority,
    path,
    headers,
    protocol: 'HTTP/2',
    upgrade: undefined,
    expectContinue,
  };
}

const pathForm = /^(?:\/[\x21-\x7e]*|\*)$/;

function authorityOf(named: string | undefined, header: string | undefined): string {
  const host = header?.toLowerCase();
  const authority = (named ?? host ?? '').toLowerCase();
  if (!authorityForm.test(authority)) throw malformed('no good :authority');
  if (host === undefined || host === authority) return authority;
  throw malformed('host and :authority name different places');
}

function malformed(message: string): HttpError {
  return new HttpError('http2/malformed', 400, message);
}

function clientGone({ rstCode }: ServerHttp2Stream): HttpError {
  return new HttpError('http2/client-gone', 0, `the client reset the stream (${rstCode})`);
}

class Exchange implements ServerExchange {
  readonly request: RequestHead;
  readonly hasBody: boolean;
  /** The proxy itself has cut it off. */
  aborted = false;
  readonly #stream: ServerHttp2Stream;
  readonly #meter: FrameMeter;
  #trailers: HeaderList | undefined;
  #over = false;
  #watcher: (() => void) | undefined;
  /** Pieces that were moved either way, and what the last look saw of that. */
  #moved = 0;
  #seen = -1;
  #seenAtMs = 0;

  constructor(
    stream: ServerHttp2Stream,
    request: RequestHead,
    hasBody: boolean,
    meter: FrameMeter,
  ) {
    this.#stream = stream;
    this.#meter = meter;
    this.request = request;
    this.hasBody = hasBody;
  }

  attach(events: ExchangeEvents, body: BodySink): void {
    const stream = this.#stream;
    stream.on('drain', () => {
      this.#moved += 1;
      events.drain();
    });
    stream.on('close', () => {
      if (this.#over) return;
      this.#over = true;
      events.gone(clientGone(stream));
    });
    let trailers: HeaderList | undefined;
    let refused = false;
    stream.on('trailers', (_headers, _flags, raw?: readonly string[]) => {
      try {
        trailers = trailersOf(raw ?? []);
      } catch {
        // The end of the body follows all the same, and would make a request of it.
        refused = true;
        stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      }
    });
    stream.on('data', (chunk: Buffer) => {
      this.#moved += 1;
      body.data(chunk);
    });
    stream.on('end', () => {
      if (!refused) body.end(trailers);
    });
    // Only now is the body wanted: whoever was refused never sent it.
    if (this.request.expectContinue && this.hasBody && !stream.destroyed) {
      stream.additionalHeaders({ ':status': 100 });
    }
  }

  get gone(): boolean {
    return this.#over || this.#stream.destroyed;
  }

  watch(gone: ((error: HttpError) => void) | undefined): void {
    if (this.#watcher !== undefined) this.#stream.off('close', this.#watcher);
    this.#watcher = gone && (() => gone(clientGone(this.#stream)));
    if (this.#watcher !== undefined) this.#stream.once('close', this.#watcher);
  }

  /** Ends a stream whose client does not read; one on which nobody has anything to say may live. */
  look(nowMs: number, stallTimeoutMs: number): void {
    if (this.#moved !== this.#seen || this.#stream.writableLength === 0) {
      this.#seen = this.#moved;
      this.#seenAtMs = nowMs;
    } else if (nowMs - this.#seenAtMs > stallTimeoutMs) {
      this.#stream.close(constants.NGHTTP2_CANCEL);
    }
  }

  pauseBody(): void {
    this.#stream.pause();
  }

  resumeBody(): void {
    if (!this.#stream.destroyed) this.#stream.resume();
  }

  inform({ status, headers }: ResponseHead): void {
    if (this.#stream.headersSent || this.#stream.destroyed || status === 101) return;
    this.#stream.additionalHeaders({ ':status': status, ...nodeHeaders(headers) });
  }

  respond({ status, headers }: ResponseHead, hasBody: boolean): void {
    const stream = this.#stream;
    if (stream.headersSent || stream.destroyed) return;
    this.#moved += 1;
    if (!hasBody) this.#over = true;
    stream.respond(
      { ':status': status, ...nodeHeaders(headers) },
      { endStream: !hasBody, waitForTrailers: hasBody },
    );
    if (!hasBody) {
      this.#answered();
      return;
    }
    stream.on('wantTrailers', () => {
      stream.sendTrailers(this.#trailers === undefined ? {} : nodeHeaders(this.#trailers));
      this.#answered();
    });
  }

  /** Whatever the client still sends of a body is of no use to anybody, and the stream would stay open for it. */
  #answered(): void {
    this.#meter.answered();
    if (!this.hasBody || this.#stream.readableEnded) return;
    // Not before the answer itself has left: for Node a reset comes first.
    setImmediate(() => this.#stream.close(constants.NGHTTP2_NO_ERROR));
  }

  write(chunk: Buffer): boolean {
    this.#moved += 1;
    this.#meter.wrote();
    return this.#stream.destroyed || this.#stream.write(chunk);
  }

  end(trailers?: HeaderList): void {
    if (this.#over || this.#stream.destroyed) return;
    this.#over = true;
    this.#trailers = trailers;
    this.#stream.end();
  }

  upgrade(): undefined {
    return undefined;
  }

  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.aborted = true;
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}
