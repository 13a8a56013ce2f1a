import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import type { Upsert } from '@ambit/api';
import { decodeAuthentication, decodeWith, noChanges } from '@ambit/api';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { match } from './nouns.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** A port of which nobody has said what it speaks. */
let world: WaypointWorld;
let backend: Backend;
/** On port 83: says that it is there, and back what it hears. */
let lines: Server;
let heard = '';

beforeAll(async () => {
  backend = await startBackend('v1');
  lines = createServer((socket) => {
    socket.write('220 ready\n');
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1');
      socket.write(chunk);
    });
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => lines.listen(0, '127.0.2.9', resolve));
  const ports = [{ servicePort: 83, targetPort: (lines.address() as AddressInfo).port }];
  world = await startWorld({
    workloads: [
      endpointOf(backend),
      endpointOf(
        { ...backend, name: 'lines', ip: '127.0.2.9' },
        {},
        { services: [{ service: shopKey, ready: true, ports }] },
      ),
    ],
    services: [
      shopService({
        ports: [
          { name: '', port: 80, appProtocol: '' },
          { name: '', port: 83, appProtocol: '' },
        ],
      }),
    ],
  });
});
afterAll(async () => {
  await world.close();
  await backend.close();
  await new Promise<void>((resolve) => lines.close(() => resolve()));
});
beforeEach(() => {
  heard = '';
});

/** What comes back for bytes that are sent after a while. */
async function send(text: string, afterMs = 0, port = 80): Promise<string> {
  const stream = await world.tunnel(port);
  return new Promise((resolve) => {
    let answer = '';
    stream.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
    stream.on('error', () => resolve(answer || 'cut'));
    stream.on('close', () => resolve(answer || 'cut'));
    setTimeout(() => stream.end(text), afterMs);
  });
}

const request = 'GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n';

test.each([
  'STOCK lamp\n',
  'metric.name 42 1234567\n',
  'OPTIONS rtsp://a/b RTSP/1.0\r\n',
  'INVITE sip:a@b SIP/2.0\r\n',
  'set foo 0 0 3\r\n',
  'NICK a\r\n',
])('%j is no request, and passes at once', async (text) => {
  const started = performance.now();
  expect(await send(text, 0, 83)).toContain(text);
  expect(performance.now() - started).toBeLessThan(400);
});

test.each(['SET a b', 'EHLO me'])('%j may become one, and passes after a moment', async (text) => {
  const stream = await world.tunnel(83);
  const started = performance.now();
  let answer = '';
  stream.on('error', () => undefined);
  stream.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
  stream.write(text);
  while (!answer.includes(text)) {
    expect(performance.now() - started).toBeLessThan(1_500);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  stream.destroy();
});

describe('a policy of requests', () => {
  const path = (value: string, port?: number): Record<string, unknown> => ({
    from: [],
    to: [
      [
        {
          kind: 'request',
          attribute: { kind: 'path' },
          values: [{ kind: 'exact', value }],
          notValues: [],
        },
        ...(port === undefined
          ? []
          : [{ kind: 'port', attribute: 'destination.port', values: [port], notValues: [] }]),
      ],
    ],
    when: [],
  });
  const hold = (action: string, ...rules: Record<string, unknown>[]): Promise<void> =>
    world.tell({
      policies: [
        {
          name: 'paths',
          action,
          scope: { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] },
          rules,
        },
      ],
    });
  afterAll(() => hold('DENY'));

  test.each([
    'GET /x',
    'GET /x\r\n',
    'GET /x\r\n\r\n',
    'GET /x HTTP/1.1 \r\nHost: a\r\n\r\n',
    '\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n',
    `${'\r\n'.repeat(40)}GET /x HTTP/1.1\r\nHost: a\r\n\r\n`,
    ' GET /x HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /x HTTP/1.1\nHost: a\n\n',
    'get /x HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n',
    'GET  /x HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /x HTTP/1.2\r\nHost: a\r\n\r\n',
    '"GET" /x HTTP/1.1\r\nHost: a\r\n\r\n',
  ])('that denies a path is not passed by with %j', async (text) => {
    await hold('DENY', path('/x'));
    expect(await send(text, 0, 83)).not.toContain('220 ready');
    expect(heard).toBe('');
  });

  test('lets in a request that it allows however late it comes', async () => {
    await hold('ALLOW', path('/x'));
    const allowed = request.replace('/', '/x');
    expect(await send(allowed)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await send(allowed, 900)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await send(request, 900)).toMatch(/^HTTP\/1\.1 403 /);
  });

  test('of another port asks no patience of this one', async () => {
    await hold('DENY', path('/x', 80));
    await expectWelcome();
  });
});

/** A server that speaks first is heard. */
async function expectWelcome(): Promise<void> {
  const stream = await world.tunnel(83);
  const started = performance.now();
  stream.on('error', () => undefined);
  await new Promise((resolve) => stream.once('data', resolve));
  expect(performance.now() - started).toBeLessThan(2_000);
  stream.destroy();
}

test('routes of requests hold for a client that takes its time', async () => {
  await world.tell({
    routes: [
      {
        service: shopKey,
        tls: [],
        tcp: [],
        http: [
          {
            name: 'teapot',
            matches: [match({ port: 80 })],
            action: { kind: 'respond', status: 418, body: '', contentType: 'text/plain' },
            request: noChanges,
            response: noChanges,
            fault: {},
            mirrors: [],
          },
        ],
      },
    ],
  });
  expect(await send(request)).toMatch(/^HTTP\/1\.1 418 /);
  expect(await send(request, 900)).toMatch(/^HTTP\/1\.1 418 /);
  await expectWelcome();
});

test('where tokens are asked for, nothing passes on which no request can be seen', async () => {
  const decoded = decodeWith(decodeAuthentication, {
    name: 'jwt',
    namespace: 'test',
    targets: [{ kind: 'service', service: shopKey }],
    broken: false,
    rules: [],
  });
  if (!decoded.ok) throw new TypeError(decoded.error.message);
  const before = backend.requests.length;
  await world.tell({
    routes: [],
    more: [
      {
        type: 'authentication',
        name: 'test/jwt',
        version: 'a1' as Upsert['version'],
        resource: decoded.value,
      },
    ],
  });
  expect(await send('"bytes of some protocol"\n')).toBe('cut');
  expect(backend.requests.length).toBe(before);
  expect(world.log.join('\n')).toContain('this connection carries none');
});
