import type { ClientHttp2Session } from 'node:http2';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import type { ByteStream } from '@ambit/core';
import { duplexOf, socketStream } from '@ambit/core';
import type { HttpResult, HttpTwoWork, HttpWork } from './work.ts';
import { endMark } from './work.ts';

export type Open = () => Promise<ByteStream>;

export function overTcp(host: string, port: number): Open {
  return () =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => resolve(socketStream(socket)));
    });
}

/** Does one kind of work for a while; fails when an answer is not as it is to be. */
export async function load(open: Open, work: HttpWork, seconds: number): Promise<HttpResult> {
  const started = performance.now();
  const deadline = started + seconds * 1000;
  const latencies = await latenciesOf(open, work, deadline);
  const elapsed = (performance.now() - started) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
  return { requests: latencies.length, seconds: elapsed, p50Ms: at(0.5), p99Ms: at(0.99) };
}

function latenciesOf(open: Open, work: HttpWork, deadline: number): Promise<number[]> {
  switch (work.kind) {
    case 'keep-alive':
      return keepAlive(open, work.connections, work.path, deadline);
    case 'new-connections':
      return newConnections(open, work.concurrency, work.path, deadline);
    case 'fixed-rate':
      return fixedRate(open, work.perSecond, work.path, deadline);
    case 'http2':
    case 'grpc':
      return overHttp2(open, work, deadline);
  }
}

const patienceMs = 10_000;

/** A connection of HTTP/1.1 that carries one request at a time. */
class Connection {
  readonly #stream: ByteStream;
  #settle: ((error?: Error) => void) | undefined;
  #tail = '';

  constructor(stream: ByteStream) {
    this.#stream = stream;
    stream.attach({
      data: (chunk) => this.#data(chunk),
      end: () => this.#settle?.(new Error('the connection ended inside an answer')),
      drain: () => undefined,
      close: (error) => this.#settle?.(error ?? new Error('the connection was closed')),
    });
  }

  #data(chunk: Buffer): void {
    const from = Math.max(0, chunk.length - endMark.length);
    this.#tail = (this.#tail + chunk.toString('latin1', from)).slice(-endMark.length);
    if (this.#tail === endMark) this.#settle?.();
  }

  ask(request: Buffer): Promise<void> {
    this.#tail = '';
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () => this.#settle?.(new Error(`no answer of the backend in ${patienceMs} ms`)),
        patienceMs,
      );
      this.#settle = (error) => {
        clearTimeout(late);
        this.#settle = undefined;
        if (error === undefined) resolve();
        else reject(error);
      };
      this.#stream.write(request);
    });
  }

  close(): void {
    this.#settle = undefined;
    this.#stream.end();
  }
}

function requestFor(path: string): Buffer {
  return Buffer.from(
    `GET ${path} HTTP/1.1\r\nhost: shop.test\r\nuser-agent: bench\r\naccept: */*\r\n\r\n`,
  );
}

async function keepAlive(open: Open, count: number, path: string, deadline: number) {
  const request = requestFor(path);
  const latencies: number[] = [];
  const one = async (): Promise<void> => {
    const connection = new Connection(await open());
    while (performance.now() < deadline) {
      const sentAt = performance.now();
      await connection.ask(request);
      latencies.push(performance.now() - sentAt);
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: count }, one));
  return latencies;
}

async function newConnections(open: Open, concurrency: number, path: string, deadline: number) {
  const request = requestFor(path);
  const latencies: number[] = [];
  const one = async (): Promise<void> => {
    while (performance.now() < deadline) {
      const startedAt = performance.now();
      const connection = new Connection(await open());
      await connection.ask(request);
      latencies.push(performance.now() - startedAt);
      connection.close();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, one));
  return latencies;
}

const tickMs = 2;

/** Open loop: what a slow answer delays is counted, because requests go on being due. */
async function fixedRate(open: Open, perSecond: number, path: string, deadline: number) {
  const request = requestFor(path);
  const latencies: number[] = [];
  const free: Connection[] = [];
  const running = new Set<Promise<void>>();
  const everyMs = 1000 / perSecond;
  let dueAt = performance.now();
  const one = async (due: number): Promise<void> => {
    const connection = free.pop() ?? new Connection(await open());
    await connection.ask(request);
    latencies.push(performance.now() - due);
    free.push(connection);
  };
  while (performance.now() < deadline) {
    for (; dueAt <= performance.now(); dueAt += everyMs) {
      const call = one(dueAt);
      running.add(call);
      void call.then(() => running.delete(call));
    }
    await new Promise((resolve) => setTimeout(resolve, tickMs));
  }
  await Promise.all(running);
  for (const connection of free) connection.close();
  return latencies;
}

const messageBytes = 64;

async function overHttp2(open: Open, work: HttpTwoWork, deadline: number): Promise<number[]> {
  const latencies: number[] = [];
  const sessions: ClientHttp2Session[] = [];
  for (let index = 0; index < work.connections; index += 1) {
    const stream = duplexOf(await open());
    sessions.push(connectHttp2('http://shop.test', { createConnection: () => stream }));
  }
  const ask = work.kind === 'grpc' ? call : get;
  const one = async (session: ClientHttp2Session): Promise<void> => {
    while (performance.now() < deadline) {
      const sentAt = performance.now();
      await ask(session, work.path);
      latencies.push(performance.now() - sentAt);
    }
  };
  await Promise.all(
    sessions.flatMap((session) => Array.from({ length: work.streams }, () => one(session))),
  );
  for (const session of sessions) session.destroy();
  return latencies;
}

function get(session: ClientHttp2Session, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path }, { endStream: true });
    let status = 0;
    stream.on('response', (headers) => (status = headers[':status'] ?? 0));
    stream.on('error', reject);
    stream.on('end', () => {
      if (status === 200) resolve();
      else reject(new Error(`status ${status}`));
    });
    stream.resume();
  });
}

const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, messageBytes]), Buffer.alloc(messageBytes)]);

function call(session: ClientHttp2Session, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    const stream = session.request(headers);
    let grpcStatus: unknown;
    stream.on('trailers', (trailers) => (grpcStatus = trailers['grpc-status']));
    stream.on('error', reject);
    stream.on('end', () => {
      if (grpcStatus === '0') resolve();
      else reject(new Error(`grpc-status ${String(grpcStatus)}`));
    });
    stream.resume();
    stream.end(frame);
  });
}
