import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:http2';
import type { ClientHttp2Session, Http2Server, ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startWorld } from './world.ts';

/** Long work of good will, HTTP/2 on both sides: nothing leaks that would stall it, and no budget cuts it. */
let world: WaypointWorld;
let grpc: Http2Server;
let sessions = 0;

const messages = 200_000;
/** A message of gRPC with a number in it. */
function message(number: number): Buffer {
  const bytes = Buffer.alloc(13);
  bytes.writeUInt32BE(8, 1);
  bytes.writeUInt32BE(number, 5);
  return bytes;
}

/** Writes all messages one by one, as fast as they are taken. */
function writeAll(stream: NodeJS.WritableStream, after: () => void): void {
  let at = 0;
  const more = (): void => {
    for (let turn = 0; turn < 64 && at < messages; turn += 1) {
      at += 1;
      if (!stream.write(message(at))) {
        stream.once('drain', more);
        return;
      }
    }
    if (at < messages) setImmediate(more);
    else after();
  };
  more();
}

const wanted = (() => {
  const hash = createHash('sha256');
  for (let at = 1; at <= messages; at += 1) hash.update(message(at));
  return hash.digest('hex');
})();

beforeAll(async () => {
  grpc = createServer();
  grpc.on('session', () => (sessions += 1));
  grpc.on('stream', (opened, headers) => {
    const stream = opened as ServerHttp2Stream;
    stream.on('error', () => undefined);
    const path = headers[':path'] ?? '';
    if (path === '/trailers-only') {
      stream.resume();
      stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true });
      return;
    }
    let sum = '0';
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-sum': sum }));
    if (path === '/server-stream') {
      stream.resume();
      writeAll(stream, () => stream.end());
      return;
    }
    if (path === '/never') return;
    const hash = createHash('sha256');
    const isStream = path === '/client-stream';
    stream.on('data', (chunk: Buffer) => {
      if (isStream) hash.update(chunk);
      else stream.write(chunk);
    });
    stream.on('end', () => {
      if (isStream) sum = hash.digest('hex');
      stream.end();
    });
  });
  await new Promise<void>((resolve) => grpc.listen(0, '127.0.4.7', resolve));
  const { port } = grpc.address() as AddressInfo;
  world = await startWorld({
    services: [shopService({ ports: [{ name: 'grpc', port: 80, appProtocol: '' }] })],
    workloads: [
      endpointOf(
        { name: 'grpc', ip: '127.0.4.7', port } as Backend,
        {},
        {
          services: [
            { service: shopKey, ready: true, ports: [{ servicePort: 80, targetPort: port }] },
          ],
        },
      ),
    ],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await new Promise<void>((resolve) => grpc.close(() => resolve()));
});

async function open(settings = {}): Promise<ClientHttp2Session> {
  const tunnel = await world.tunnel(80);
  const session = connect('http://shop.test', { createConnection: () => tunnel, settings });
  session.on('error', () => undefined);
  return session;
}

const call = (path: string): Record<string, string> => ({
  ':method': 'POST',
  ':path': path,
  'content-type': 'application/grpc',
  te: 'trailers',
});

interface Seen {
  readonly body: string;
  readonly status: unknown;
  readonly sum: unknown;
  readonly code: number | undefined;
}

function unary(session: ClientHttp2Session, path: string, body: Buffer): Promise<Seen> {
  return new Promise((resolve) => {
    const stream = session.request(call(path));
    let seen = '';
    let status: unknown;
    let sum: unknown;
    stream.setEncoding('latin1');
    stream.on('response', (fields) => (status = fields['grpc-status']));
    stream.on('trailers', (fields) => {
      status = fields['grpc-status'];
      sum = fields['x-sum'];
    });
    stream.on('data', (text: string) => (seen += text));
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ body: seen, status, sum, code: stream.rstCode }));
    stream.end(body);
  });
}

const active = (): number =>
  [...world.waypoint.context.clusters].reduce((sum, { requests }) => sum + requests, 0);

/** So many calls on one connection, fifty at a time. */
async function calls(count: number, one: (at: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      next += 1;
      await one(next);
    }
  };
  await Promise.all(Array.from({ length: 50 }, worker));
}

test('twenty thousand calls on one connection each get their own answer', async () => {
  const session = await open();
  const before = sessions;
  let wrong = 0;
  await calls(20_000, async (at) => {
    const body = message(at);
    const seen = await unary(session, '/unary', body);
    if (seen.body !== body.toString('latin1') || seen.status !== '0' || seen.code !== 0) wrong += 1;
  });
  expect(wrong).toBe(0);
  expect(sessions - before).toBeLessThanOrEqual(1);
  expect(active()).toBe(0);
  expect(session.closed).toBe(false);
  session.destroy();
}, 20_000);

test('five thousand answers of trailers alone', async () => {
  const session = await open();
  let wrong = 0;
  await calls(5_000, async (at) => {
    const seen = await unary(session, '/trailers-only', message(at));
    if (seen.body !== '' || seen.status !== '5') wrong += 1;
  });
  expect(wrong).toBe(0);
  expect(session.closed).toBe(false);
  session.destroy();
}, 20_000);

test('calls that are cancelled, as many as are answered', async () => {
  const session = await open();
  let wrong = 0;
  await calls(3_000, async (at) => {
    if (at % 2 === 0) {
      const stream = session.request(call('/never'));
      stream.on('error', () => undefined);
      stream.write(message(at));
      await new Promise((resolve) => setTimeout(resolve, 1));
      stream.close(8);
      return;
    }
    const seen = await unary(session, '/unary', message(at));
    if (seen.body !== message(at).toString('latin1')) wrong += 1;
  });
  expect(wrong).toBe(0);
  expect(session.closed).toBe(false);
  session.destroy();
}, 20_000);

test.each([
  ['windows as they come', {}],
  ['a window of a thousand bytes', { initialWindowSize: 1_000 }],
])(
  'two hundred thousand messages from a server, %s',
  async (_name, settings) => {
    const session = await open(settings);
    const stream = session.request(call('/server-stream'));
    const hash = createHash('sha256');
    stream.on('data', (chunk: Buffer) => hash.update(chunk));
    stream.end(message(1));
    // A client that looks whether the server is there.
    const pings = setInterval(() => {
      if (!session.destroyed) session.ping(() => undefined);
    }, 20);
    await new Promise((resolve) => stream.once('close', resolve));
    clearInterval(pings);
    expect(stream.rstCode).toBe(0);
    expect(hash.digest('hex')).toBe(wanted);
    session.destroy();
  },
  20_000,
);

test('two hundred thousand messages from a client', async () => {
  const session = await open();
  const stream = session.request(call('/client-stream'));
  let sum: unknown;
  stream.on('trailers', (fields) => (sum = fields['x-sum']));
  stream.resume();
  writeAll(stream, () => stream.end());
  await new Promise((resolve) => stream.once('close', resolve));
  expect(stream.rstCode).toBe(0);
  expect(sum).toBe(wanted);
  session.destroy();
}, 20_000);
