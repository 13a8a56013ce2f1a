import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import { connect, constants } from 'node:http2';
import type { ProviderAddress } from '@ambit/api';
import { MeshError } from '@ambit/core';
import { BoundedMap } from './bounded-map.ts';
import { deadlineOf } from './deadline.ts';
import type { Place, Reach } from './reach.ts';

/** One question of one message, answered by one message. */
export interface UnaryCall {
  readonly address: ProviderAddress;
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly message: Uint8Array;
  readonly metadata?: readonly (readonly [name: string, value: string])[];
  readonly timeoutMs: number;
  readonly maxAnswerBytes: number;
  readonly signal?: AbortSignal | undefined;
}

/** Asks over gRPC; one session for each place that answers, kept while it is good. */
export interface GrpcClient {
  /** Fails with code `client/grpc-status` where the answer is no success, and where there is none in time. */
  unary(call: UnaryCall): Promise<Buffer>;
  close(): void;
}

const maxSessions = 256;
const frameHeadBytes = 5;
const idleMs = 60_000;

export function createGrpcClient(reach: Reach): GrpcClient {
  return new Client(reach);
}

class Client implements GrpcClient {
  readonly #reach: Reach;
  readonly #sessions = new BoundedMap<Promise<ClientHttp2Session>>(maxSessions, (forgotten) => {
    forgotten.then(
      (session) => session.close(),
      () => undefined,
    );
  });
  #closed = false;

  constructor(reach: Reach) {
    this.#reach = reach;
  }

  async unary(call: UnaryCall): Promise<Buffer> {
    const deadline = deadlineOf(call.timeoutMs, call.signal);
    const { signal } = deadline;
    try {
      const session = await within(
        this.#sessionOf(this.#reach(call.address), call.address),
        signal,
      );
      signal.throwIfAborted();
      return await exchange(session, call, signal);
    } finally {
      deadline.clear();
    }
  }

  close(): void {
    this.#closed = true;
    for (const one of this.#sessions.values()) {
      one.then(
        (session) => session.destroy(),
        () => undefined,
      );
    }
    this.#sessions.clear();
  }

  #sessionOf(place: Place, address: ProviderAddress): Promise<ClientHttp2Session> {
    const known = this.#sessions.get(place.id);
    if (known !== undefined) return known;
    const made = this.#open(place, address);
    this.#sessions.set(place.id, made);
    const forget = (): void => this.#sessions.delete(place.id, made);
    made.then((session) => {
      // No new calls on what is about to end, whoever ends it.
      session.once('goaway', forget);
      session.once('close', forget);
      if (session.closed || session.destroyed) forget();
    }, forget);
    return made;
  }

  async #open(place: Place, { host, port }: ProviderAddress): Promise<ClientHttp2Session> {
    if (this.#closed) throw new MeshError('client/closed', 'the proxy is stopping');
    const stream = await place.connect();
    const session = connect(`http://${host}:${port}`, { createConnection: () => stream });
    session.on('error', () => undefined);
    session.setTimeout(idleMs, () => session.close());
    return session;
  }
}

/** The wait ends with the signal; what is waited for goes on for others. */
function within<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(reasonOf(signal));
    signal.addEventListener('abort', aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error('given up');
}

function exchange(
  session: ClientHttp2Session,
  call: UnaryCall,
  signal: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': call.path,
      ':scheme': 'http',
      ':authority': `${call.address.host}:${call.address.port}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...Object.fromEntries(call.metadata ?? []),
    });
    const aborted = (): void => {
      stream.close(constants.NGHTTP2_CANCEL);
      reject(reasonOf(signal));
    };
    signal.addEventListener('abort', aborted, { once: true });
    answerOf(stream, call.maxAnswerBytes)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', aborted));
    const head = Buffer.alloc(frameHeadBytes);
    head.writeUInt32BE(call.message.length, 1);
    stream.end(Buffer.concat([head, call.message]));
  });
}

function answerOf(stream: ClientHttp2Stream, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let head: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on('response', (fields) => (head = fields));
    stream.on('trailers', (fields) => (trailers = fields));
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes <= maxBytes + frameHeadBytes) return;
      stream.close(constants.NGHTTP2_CANCEL);
      reject(new MeshError('client/too-long', `an answer over ${maxBytes} bytes`));
    });
    stream.on('error', reject);
    stream.on('close', () => {
      const read = messageOf(head, trailers, Buffer.concat(chunks));
      if (read instanceof Error) reject(read);
      else resolve(read);
    });
  });
}

function messageOf(
  head: IncomingHttpHeaders,
  trailers: IncomingHttpHeaders,
  body: Buffer,
): Buffer | Error {
  const httpStatus = String((head as { readonly ':status'?: number })[':status'] ?? 'none');
  if (httpStatus !== '200') return new MeshError('client/http-status', `HTTP status ${httpStatus}`);
  const status = String(trailers['grpc-status'] ?? head['grpc-status'] ?? 'none');
  if (status !== '0') {
    const message = String(trailers['grpc-message'] ?? head['grpc-message'] ?? '').slice(0, 200);
    return new MeshError('client/grpc-status', `gRPC status ${status} ${message}`.trimEnd());
  }
  const whole =
    body.length >= frameHeadBytes && body.readUInt32BE(1) === body.length - frameHeadBytes;
  // Compressed messages were not asked for.
  if (!whole || body[0] !== 0) return new MeshError('client/malformed', 'no gRPC message');
  return body.subarray(frameHeadBytes);
}
