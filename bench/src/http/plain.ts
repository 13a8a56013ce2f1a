// The baseline: what anybody would write in 30 lines, without TLS, routes, policies, metrics and logs.
//   node bench-http-plain.mjs HOST PORT-OF-HTTP1 PORT-OF-HTTP2 [PORT]
import { createServer } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { connect, createServer as createHttp2Server } from 'node:http2';
import { Pool } from 'undici';
import { listenOnTwo } from './listen.ts';

const [host = '', port1 = '', port2 = '', port = '0'] = process.argv.slice(2);
const authority = host.includes(':') ? `[${host}]` : host;
const pool = new Pool(`http://${authority}:${port1}`, { connections: 64, pipelining: 1 });
const http1 = createServer((request, response) => {
  const { method, url, headers } = request;
  pool.stream(
    {
      method: method ?? 'GET',
      path: url ?? '/',
      headers,
      body: method === 'GET' ? null : request,
      opaque: response,
    },
    ({ statusCode, headers: answer }) => {
      response.writeHead(statusCode, answer);
      return response;
    },
    (error) => {
      if (error !== null) response.destroy(error);
    },
  );
});

const session = connect(`http://${authority}:${port2}`);
const http2 = createHttp2Server();
http2.on('stream', (stream: ServerHttp2Stream, headers) => {
  const upstream = session.request(headers, { endStream: stream.endAfterHeaders });
  let trailers: Record<string, unknown> = {};
  upstream.on('trailers', (received) => (trailers = received));
  upstream.on('response', ({ ':status': status, ...answer }) => {
    stream.respond({ ':status': status, ...answer }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers as Record<string, string>));
    upstream.pipe(stream);
  });
  for (const one of [stream, upstream]) one.on('error', () => one.destroy());
  if (!stream.endAfterHeaders) stream.pipe(upstream);
});
listenOnTwo(http1, http2, Number(port));
