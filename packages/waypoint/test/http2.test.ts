import { createServer, connect } from 'node:http2';
import type { ClientHttp2Session, Http2Server, ServerHttp2Stream } from 'node:http2';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseIp, parsePort } from '@ambit/api';
import { duplexOf } from '@ambit/core';
import type { Backend, WaypointWorld } from './world.ts';
import { startBackend, startWorldOfBoth, vip } from './world.ts';

let world: WaypointWorld;
let plain: Backend;
let grpc: Http2Server;
const seen: string[] = [];

beforeAll(async () => {
  plain = await startBackend('plain');
  grpc = createServer();
  grpc.on('stream', (opened, headers) => {
    const stream = opened as ServerHttp2Stream;
    seen.push([headers[':method'], headers[':path'], headers['te']].join(' '));
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc' },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () =>
        stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' }),
      );
      stream.end(Buffer.concat(chunks));
    });
  });
  world = await startWorldOfBoth(plain, grpc, '127.0.1.1');
}, 30_000);

afterAll(async () => {
  await world.close();
  await plain.close();
  await new Promise<void>((resolve) => grpc.close(() => resolve()));
});

async function client(number: number): Promise<ClientHttp2Session> {
  const ip = parseIp(vip);
  const port = parsePort(number);
  if (!ip.ok || !port.ok) throw new TypeError('no address');
  const { stream } = await (
    await world.session()
  ).openTunnel({
    authority: { kind: 'address', ip: ip.value, port: port.value },
    headers: [],
    timeoutMs: 15_000,
  });
  const session = connect('http://shop.test', { createConnection: () => duplexOf(stream) });
  session.on('error', () => undefined);
  return session;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly trailers: Record<string, unknown>;
}

async function ask(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let status = 0;
    let trailers: Record<string, unknown> = {};
    const chunks: Buffer[] = [];
    stream.on('response', (answer) => (status = Number(answer[':status'])));
    stream.on('trailers', (answer) => (trailers = { ...answer }));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('close', () => resolve({ status, body: Buffer.concat(chunks).toString(), trailers }));
    if (body !== undefined) stream.end(body);
  });
}

test('HTTP/2 in, HTTP/1.1 out: many requests on one connection', async () => {
  const session = await client(80);
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      ask(session, { ':method': 'POST', ':path': `/${index}` }, 'body'),
    ),
  );
  for (const [index, { status, body }] of answers.entries()) {
    expect([status, body]).toEqual([200, `plain POST /${index} body`]);
  }
  session.close();
});

test('gRPC in and out: trailers, status and te', async () => {
  const session = await client(81);
  const answer = await ask(
    session,
    {
      ':method': 'POST',
      ':path': '/shop.Cart/Add',
      'content-type': 'application/grpc',
      te: 'trailers',
    },
    'x'.repeat(100_000),
  );
  expect(answer).toMatchObject({
    status: 200,
    trailers: { 'grpc-status': '0', 'grpc-message': 'fine' },
  });
  expect(answer.body.length).toBe(100_000);
  expect(seen.at(-1)).toBe('POST /shop.Cart/Add trailers');
  session.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const text = await world.metrics.render();
  expect(text).toMatch(
    /istio_requests_total\{[^}]*request_protocol="grpc"[^}]*grpc_response_status="0"/,
  );
});

test('what HTTP/1.1 would read otherwise is refused', async () => {
  const session = await client(80);
  session.on('error', () => undefined);
  for (const headers of [
    { ':path': '/a b' },
    { ':path': 'nowhere' },
    { ':path': '/', ':authority': 'shop.test', host: 'elsewhere' },
    { ':path': '/', x_forwarded_client_cert: 'forged' },
  ]) {
    const before = plain.requests.length;
    const outcome = await ask(session, { ':method': 'GET', ...headers }).then(
      ({ status }) => status,
      () => 0,
    );
    expect([0, 400]).toContain(outcome);
    expect(plain.requests.length).toBe(before);
  }
  session.destroy();
});

test('a stream that is reset leaves the others alone', async () => {
  const session = await client(80);
  const cut = session.request({ ':method': 'POST', ':path': '/cut' });
  cut.on('error', () => undefined);
  cut.write('half');
  await new Promise((resolve) => setTimeout(resolve, 20));
  cut.close(8);
  expect((await ask(session, { ':path': '/after' })).status).toBe(200);
  session.close();
});
