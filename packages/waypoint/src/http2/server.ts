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
  handlers: Http2ServerHandlers,
  onClosed: (connection: Http2ServerConnection) => void,
): Http2ServerConnection {
  const socket = duplexOf(stream);
  const session = performServerHandshake(socket, options);
  let closed = false;
  let draining = false;
  const connection: Http2ServerConnection = {
    drain: () => {
      if (session.destroyed || draining) return;
      draining = true;
      // Twice, as RFC 9113 §6.8 has it: what is under way when the first arrives is still taken.
      session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1);
      setTimeout(() => session.close(), secondGoawayMs).unref();
    },
    closeIdle: () => session.close(),
    get closed() {
      return closed;
    },
  };
  socket.on('error', () => undefined);
  session.on('error', () => session.destroy());
  session.on('close', () => {
    closed = true;
    onClosed(connection);
  });
  session.on('stream', (opened, _headers, _flags, raw?: readonly string[]) => {
    take(opened, raw ?? [], handlers);
  });
  return connection;
}

const secondGoawayMs = 1_000;

function take(
  stream: ServerHttp2Stream,
  raw: readonly string[],
  handlers: Http2ServerHandlers,
): void {
  stream.on('error', () => undefined);
  try {
    handlers.onRequest(new Exchange(stream, headOf(raw), !stream.endAfterHeaders));
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    handlers.onMalformed(error);
    stream.respond({ ':status': error.status }, { endStream: true });
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
  readonly #stream: ServerHttp2Stream;
  #trailers: HeaderList | undefined;
  #over = false;
  #watcher: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, request: RequestHead, hasBody: boolean) {
    this.#stream = stream;
    this.request = request;
    this.hasBody = hasBody;
  }

  attach(events: ExchangeEvents, body: BodySink): void {
    const stream = this.#stream;
    stream.on('drain', () => events.drain());
    stream.on('close', () => {
      if (this.#over) return;
      this.#over = true;
      events.gone(clientGone(stream));
    });
    let trailers: HeaderList | undefined;
    stream.on('trailers', (_headers, _flags, raw?: readonly string[]) => {
      try {
        trailers = trailersOf(raw ?? []);
      } catch {
        stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      }
    });
    stream.on('data', (chunk: Buffer) => body.data(chunk));
    stream.on('end', () => body.end(trailers));
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
    if (!this.hasBody || this.#stream.readableEnded) return;
    // Not before the answer itself has left: for Node a reset comes first.
    setImmediate(() => this.#stream.close(constants.NGHTTP2_NO_ERROR));
  }

  write(chunk: Buffer): boolean {
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
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}
