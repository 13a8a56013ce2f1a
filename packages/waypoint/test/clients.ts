import type { Agent } from 'node:http';
import { request as httpRequest } from 'node:http';
import type { ClientHttp2Session, ServerHttp2Stream } from 'node:http2';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';

const messages = 40;
const everyMs = 50;

/** What a whole stream of the server below is, by `askGrpc`. */
export const wholeStream = `0 ${Array.from({ length: messages }, (_, at) => (at + 1) % 10).join('')}`;

export interface GrpcServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Answers `fine`, and to `/stream` a figure every 50 ms for two seconds. */
export async function startGrpc(ip: string): Promise<GrpcServer> {
  const server = createHttp2Server();
  server.on('session', (session) => void session.on('error', () => undefined));
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined);
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    if (headers[':path'] !== '/stream') {
      stream.end('fine');
      return;
    }
    let count = 0;
    const timer = setInterval(() => {
      count += 1;
      stream.write(String(count % 10));
      if (count < messages) return;
      clearInterval(timer);
      stream.end();
    }, everyMs);
  });
  await new Promise<void>((resolve) => server.listen(0, ip, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

/** Status and body of one call, `0 fine` for a good one. */
export function askGrpc(session: ClientHttp2Session, path: string): Promise<string> {
  const stream = session.request({
    ':path': path,
    ':method': 'POST',
    'content-type': 'application/grpc',
  });
  return new Promise((resolve, reject) => {
    let body = '';
    let status = '';
    stream.on('trailers', (trailers) => (status = String(trailers['grpc-status'])));
    stream.on('data', (chunk: Buffer) => (body += chunk.toString()));
    stream.on('error', reject);
    stream.on('close', () => resolve(`${status} ${body}`));
    stream.end();
  });
}

/** Status and body, `200 fine` for a good one. */
export function get(agent: Agent, port: number, path = '/'): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = httpRequest({ agent, port, path, headers: { host: 'shop.test' } }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('error', reject);
      response.on('end', () => resolve(`${response.statusCode ?? 0} ${body}`));
    });
    call.on('error', reject);
    call.end();
  });
}
