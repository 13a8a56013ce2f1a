// What is asked in the end: node bench-http-backend.mjs [PORT]. HTTP/1.1 on PORT, HTTP/2 and gRPC on the next one.
import { createServer } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { createServer as createHttp2Server } from 'node:http2';
import { endMark, largeBytes, smallBytes } from './work.ts';
import { listenOnTwo } from './listen.ts';

const bodyOf = (bytes: number): Buffer => Buffer.from('x'.repeat(bytes - endMark.length) + endMark);
const small = bodyOf(smallBytes);
const large = bodyOf(largeBytes);
const bodyFor = (path: string): Buffer => (path.endsWith('/large') ? large : small);

const http1 = createServer((request, response) => {
  request.resume();
  const body = bodyFor(request.url ?? '');
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
  response.end(body);
});
http1.keepAliveTimeout = 60_000;

const message = Buffer.concat([Buffer.from([0, 0, 0, 0, 64]), Buffer.alloc(64)]);
const http2 = createHttp2Server();
http2.on('stream', (stream: ServerHttp2Stream, headers) => {
  stream.on('error', () => undefined);
  if (headers['content-type'] !== 'application/grpc') {
    const body = bodyFor(headers[':path'] ?? '');
    stream.respond({ ':status': 200, 'content-type': 'text/plain', 'content-length': body.length });
    stream.end(body);
    return;
  }
  stream.resume();
  stream.on('end', () => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(message);
  });
});
listenOnTwo(http1, http2, Number(process.argv[2] ?? 0));
