import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool } from 'undici';

/** The baseline: what anybody would write in a few lines, without TLS, routes, policies, metrics and logs. */
const pool = new Pool(`http://127.0.0.1:${process.argv[2] ?? ''}`, {
  connections: 64,
  pipelining: 1,
});
const server = createServer((request, response) => {
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
server.listen(0, '127.0.0.1', () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
);
process.on('disconnect', () => process.exit(0));
