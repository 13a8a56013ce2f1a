import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { endMark } from './load.ts';

/** Answers every request with 1 KiB. */
const body = Buffer.from('x'.repeat(1024 - endMark.length) + endMark);
const server = createServer((request, response) => {
  request.resume();
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
  response.end(body);
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
);
process.on('disconnect', () => process.exit(0));
