import { connect, createServer } from 'node:http2';
import type { ClientHttp2Session, Http2Server, ServerHttp2Stream } from 'node:http2';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { exact, forward, match, nowhere, route } from './nouns.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { shopKey, startBackend, startWorldOfBoth } from './world.ts';

/** Clients of HTTP/2; port 80 leads to an endpoint of HTTP/1.1, port 81 to one of gRPC. */
let world: WaypointWorld;
let plain: Backend;
let grpc: Http2Server;
let session: ClientHttp2Session | undefined;

beforeAll(async () => {
  plain = await startBackend('plain', (request, response) => {
    request.resume();
    request.on('end', () => {
      if (request.url === '/hints') response.writeEarlyHints({ link: '</a.css>; rel=preload' });
      if (request.url === '/204') {
        response.writeHead(204).end();
        return;
      }
      if (request.method === 'HEAD') {
        response.end();
        return;
      }
      response.setHeader('trailer', 'x-sum');
      response.write('plain');
      response.addTrailers({ 'x-sum': '7' });
      response.end();
    });
  });
  grpc = createServer();
  grpc.on('stream', (opened, headers) => {
    const stream = opened as ServerHttp2Stream;
    stream.on('error', () => undefined);
    if (headers[':path'] === '/empty') {
      // Bodiless by its status, though the stream goes on for a moment.
      stream.respond({ ':status': 200, 'content-length': '5' }, { endStream: false });
      setTimeout(() => stream.end(), 20);
      return;
    }
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () =>
      stream.sendTrailers({ 'grpc-status': '5', 'grpc-message': 'not%20here' }),
    );
    stream.on('data', (chunk: Buffer) => stream.write(`<${chunk.toString()}>`));
    stream.on('end', () => stream.end('bye'));
  });
  world = await startWorldOfBoth(plain, grpc, '127.0.4.1');
}, 30_000);

afterAll(async () => {
  await world.close();
  await plain.close();
  await new Promise<void>((resolve) => grpc.close(() => resolve()));
});

beforeEach(async () => {
  session?.destroy();
  await world.tell({ routes: [{ service: shopKey, http: [] }] });
});

async function open(port: number): Promise<ClientHttp2Session> {
  const stream = await world.tunnel(port);
  const made = connect('http://shop.test', { createConnection: () => stream });
  made.on('error', () => undefined);
  session = made;
  return made;
}

interface Seen {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly informational: number[];
  readonly body: string;
  readonly reset: number | undefined;
}

function ask(
  on: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string,
): Promise<Seen> {
  return new Promise((resolve) => {
    const stream = on.request(headers, { endStream: body === undefined });
    const seen = { status: 0, headers: {}, trailers: {}, informational: [] as number[], body: '' };
    stream.on('headers', (one) => seen.informational.push(Number(one[':status'])));
    stream.on('response', (one) =>
      Object.assign(seen, { status: Number(one[':status']), headers: { ...one } }),
    );
    stream.on('trailers', (one) => Object.assign(seen, { trailers: { ...one } }));
    stream.on('data', (chunk: Buffer) => (seen.body += chunk.toString()));
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ ...seen, reset: stream.rstCode }));
    if (body !== undefined) stream.end(body);
  });
}

const call = {
  ':method': 'POST',
  ':path': '/a.B/C',
  'content-type': 'application/grpc',
  te: 'trailers',
};

describe('streams of gRPC', () => {
  test('both ways at once, each message as it comes, the half-close and the trailers at the end', async () => {
    const stream = (await open(81)).request(call, { endStream: false });
    let text = '';
    let trailers: Record<string, unknown> = {};
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    stream.on('trailers', (one) => (trailers = { ...one }));
    const sees = async (wanted: string): Promise<void> => {
      while (!text.includes(wanted)) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    for (const message of ['one', 'two', 'three']) {
      stream.write(message);
      await sees(`<${message}>`);
    }
    expect(text).not.toContain('bye');
    stream.end();
    await new Promise((resolve) => stream.on('close', resolve));
    expect(text).toBe('<one><two><three>bye');
    expect(trailers).toMatchObject({ 'grpc-status': '5', 'grpc-message': 'not%20here' });
  });

  test('one that its client resets is reset at the endpoint, and the others go on', async () => {
    const on = await open(81);
    const closed = new Promise<number>((resolve) => {
      grpc.once('stream', (opened) => opened.on('close', () => resolve(opened.rstCode)));
    });
    const cut = on.request(call, { endStream: false });
    cut.on('error', () => undefined);
    cut.write('x');
    await new Promise((resolve) => cut.once('data', resolve));
    cut.close(8);
    expect(await closed).toBe(8);
    expect((await ask(on, call, 'after')).body).toBe('<after>bye');
  });
});

describe('a client of gRPC reads what the proxy says as its status, in the head', () => {
  const service = 'application/grpc';
  const fault = (abort: object) => route({ fault: { abort: { percentage: 100, ...abort } } });
  test.each<readonly [string, Record<string, unknown>[], string, number]>([
    ['no route', [route({ matches: [match({ path: exact('/none') })] })], service, 12],
    ['a backend that is not there', [route({ action: forward(nowhere) })], service, 14],
    ['503', [fault({ status: 503 })], service, 14],
    ['500', [fault({ status: 500 })], service, 2],
    ['429', [fault({ status: 429 })], 'application/grpc+proto', 14],
    ['401', [fault({ status: 401 })], service, 16],
    ['a status of its own', [fault({ status: 429, grpcStatus: 8 })], service, 8],
  ])('%s', async (_name, http, type, code) => {
    await world.tell({ routes: [{ service: shopKey, http }] });
    const seen = await ask(await open(81), { ...call, 'content-type': type }, 'x');
    expect(seen).toMatchObject({ status: 200, body: '', headers: { 'grpc-status': String(code) } });
  });

  test('the message is readable', async () => {
    await world.tell({ routes: [{ service: shopKey, http: [fault({ status: 503 })] }] });
    const { headers } = await ask(await open(81), call, 'x');
    expect(headers).toMatchObject({
      'grpc-message': 'fault filter abort',
      'content-type': 'application/grpc',
    });
  });

  test('its dialect for browsers gets HTTP', async () => {
    await world.tell({ routes: [{ service: shopKey, http: [fault({ status: 503 })] }] });
    const seen = await ask(
      await open(81),
      { ...call, 'content-type': 'application/grpc-web' },
      'x',
    );
    expect(seen.status).toBe(503);
  });
});

describe('HTTP/2', () => {
  test('103 and trailers of an endpoint of HTTP/1.1', async () => {
    const seen = await ask(await open(80), { ':path': '/hints', te: 'trailers' });
    expect(seen).toMatchObject({
      status: 200,
      informational: [103],
      body: 'plain',
      trailers: { 'x-sum': '7' },
    });
  });

  test('100 where the body is wanted', async () => {
    const stream = (await open(80)).request(
      { ':method': 'POST', ':path': '/', expect: '100-continue' },
      { endStream: false },
    );
    await new Promise<void>((resolve) => stream.on('continue', resolve));
    stream.end('body');
    const status = await new Promise((resolve) =>
      stream.on('response', (one) => resolve(one[':status'])),
    );
    expect(status).toBe(200);
    expect(plain.requests.at(-1)?.headers.expect).toBeUndefined();
  });

  test.each(['/204', '/'])('HEAD and 204 have no body: %s', async (path) => {
    const seen = await ask(await open(80), {
      ':method': path === '/204' ? 'GET' : 'HEAD',
      ':path': path,
    });
    expect([seen.status, seen.body]).toEqual([path === '/204' ? 204 : 200, '']);
  });

  test('HEAD of an endpoint of HTTP/2 that ends its stream late', async () => {
    const on = await open(81);
    const seen = await ask(on, { ':method': 'HEAD', ':path': '/empty' });
    expect(seen).toMatchObject({
      status: 200,
      body: '',
      reset: 0,
      headers: { 'content-length': '5' },
    });
    expect((await ask(on, call, 'after')).body).toBe('<after>bye');
  });

  test('CONNECT, plain or extended, is refused and the connection goes on', async () => {
    const on = await open(80);
    const plainConnect = await ask(on, { ':method': 'CONNECT', ':authority': 'a:80' });
    expect(plainConnect.status === 405 || (plainConnect.reset ?? 0) > 0).toBe(true);
    expect((await ask(on, { ':path': '/after' })).status).toBe(200);
    expect(on.remoteSettings.enableConnectProtocol).toBe(false);
  });
});
