import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { defaultTraffic, noChanges } from '@ambit/api';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { forward, match, prefix, route } from './nouns.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

let world: WaypointWorld;
let backend: Backend;
let speaksFirst: Server;
let written = 0;
let more: () => void = () => undefined;

beforeAll(async () => {
  backend = await startBackend('plain', (request, response) => {
    const path = request.url ?? '/';
    if (path === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
      more = () => response.end('data: 2\n\n');
    } else if (path === '/endless') {
      const block = Buffer.alloc(64 * 1024, 'x');
      const fill = (): void => {
        while (!response.destroyed && written < 400 * block.length) {
          written += block.length;
          if (!response.write(block)) return;
        }
        response.end();
      };
      response.on('drain', fill);
      fill();
    } else if (path === '/unread') {
      more = () => request.resume();
      request.on('end', () => response.end('read'));
    } else if (path === '/hints') {
      response.writeEarlyHints({ link: '</a.css>; rel=preload' });
      setTimeout(() => response.end('late'), 30);
    } else if (path === '/trailers') {
      request.resume();
      request.on('end', () => {
        response.writeHead(200, { trailer: 'x-sum' });
        response.write(`got ${request.trailers['x-client'] ?? 'none'}`);
        response.addTrailers({ 'x-sum': '7' });
        response.end();
      });
    } else if (path === '/204' || path === '/304') {
      response.writeHead(Number(path.slice(1)), { 'x-a': '1' });
      response.end();
    } else if (path === '/early') {
      response.end('before you are done');
    } else {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () =>
        response.end(`${request.method ?? ''} ${Buffer.concat(chunks).toString()}`),
      );
    }
  });
  backend.server.on('upgrade', (request, socket: Duplex) => {
    if (request.url === '/no') {
      socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno');
      return;
    }
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-endpoint: 1\r\n\r\nhello',
    );
    socket.on('data', (chunk: Buffer) => socket.write(chunk));
    socket.on('end', () => socket.end('bye'));
    socket.on('error', () => undefined);
  });
  speaksFirst = createServer({ allowHalfOpen: true }, (socket) => {
    socket.write('220 welcome\r\n');
    socket.on('data', (chunk: Buffer) => socket.write(chunk));
    socket.on('end', () => socket.end('bye'));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => speaksFirst.listen(0, '127.0.2.1', resolve));
  const { port } = speaksFirst.address() as AddressInfo;
  const ports = [{ servicePort: 80, targetPort: backend.port }];
  world = await startWorld({
    services: [
      shopService({
        ports: [
          { name: 'http', port: 80, appProtocol: '' },
          { name: 'any', port: 83, appProtocol: '' },
          { name: 'mysql', port: 84, appProtocol: '' },
        ],
      }),
    ],
    workloads: [
      endpointOf(backend, {}, { services: [{ service: shopKey, ready: true, ports }] }),
      endpointOf(
        { ...backend, name: 'first', ip: '127.0.2.1' },
        {},
        {
          services: [
            {
              service: shopKey,
              ready: true,
              ports: [83, 84].map((servicePort) => ({ servicePort, targetPort: port })),
            },
          ],
        },
      ),
    ],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await backend.close();
  await new Promise<void>((resolve) => speaksFirst.close(() => resolve()));
});

beforeEach(async () => {
  written = 0;
  await world.tell({ routes: [{ service: shopKey, http: [] }] });
});

/** A connection of a client, and all that came on it. */
class Client {
  text = '';
  bytes = 0;
  ended = false;
  readonly stream: Duplex;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      if (this.text.length < 100_000) this.text += chunk.toString('latin1');
    });
    stream.on('end', () => (this.ended = true));
    stream.on('error', () => (this.ended = true));
    stream.on('close', () => (this.ended = true));
  }

  send(text: string): this {
    this.stream.write(text.replaceAll('\n', '\r\n'));
    return this;
  }

  async until(holds: (client: Client) => boolean, ms = 5_000): Promise<string> {
    const deadline = performance.now() + ms;
    while (!holds(this)) {
      if (performance.now() > deadline) throw new Error(`not so: ${JSON.stringify(this.text)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return this.text;
  }

  sees(text: string): Promise<string> {
    return this.until((one) => one.text.includes(text));
  }
}

async function client(port = 80): Promise<Client> {
  return new Client(await world.tunnel(port));
}

async function settled(read: () => number): Promise<number> {
  let last = -1;
  while (read() !== last) {
    last = read();
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return last;
}

describe('bodies', () => {
  test('pass as they come: the first event is there while the rest is not', async () => {
    const one = (await client()).send('GET /events HTTP/1.1\nhost: a\n\n');
    await one.sees('data: 1');
    expect(one.text).not.toContain('data: 2');
    more();
    await one.sees('data: 2');
  });

  test('a client that stops reading stops the endpoint, and gets all of it later', async () => {
    const one = (await client()).send('GET /endless HTTP/1.1\nhost: a\n\n');
    await one.sees('200 OK');
    one.stream.pause();
    const rss = process.memoryUsage().rss;
    expect(await settled(() => written)).toBeLessThan(20 * 1024 * 1024);
    expect(process.memoryUsage().rss - rss).toBeLessThan(64 * 1024 * 1024);
    one.stream.resume();
    await one.until(({ bytes }) => bytes > 400 * 64 * 1024, 20_000);
  }, 30_000);

  test('an endpoint that stops reading stops the client', async () => {
    const one = (await client()).send(
      'POST /unread HTTP/1.1\nhost: a\ntransfer-encoding: chunked\n\n',
    );
    const block = Buffer.alloc(64 * 1024, 'x');
    let sent = 0;
    const fill = (): void => {
      while (sent < 1000) {
        sent += 1;
        if (
          !one.stream.write(Buffer.concat([Buffer.from('10000\r\n'), block, Buffer.from('\r\n')]))
        )
          return;
      }
      if (sent === 1000) one.stream.write('0\r\n\r\n');
      sent += 1;
    };
    one.stream.on('drain', fill);
    fill();
    await settled(() => sent);
    expect(sent).toBeLessThan(600);
    more();
    await one.until(({ text }) => text.includes('read'), 20_000);
  }, 30_000);

  test('trailers pass both ways', async () => {
    const one = (await client()).send(
      'POST /trailers HTTP/1.1\nhost: a\nte: trailers\ntransfer-encoding: chunked\n\n1\nx\n0\nx-client: 5\n\n',
    );
    expect(await one.sees('x-sum: 7')).toContain('got 5');
  });

  test('an answer before the request is over ends the connection in order', async () => {
    const one = (await client()).send(
      'POST /early HTTP/1.1\nhost: a\ncontent-length: 1000\n\nhalf',
    );
    expect(await one.until(({ ended }) => ended)).toContain('before you are done');
  });

  test.each(['HEAD /', 'GET /204', 'GET /304'])(
    '%s has none, and the connection goes on',
    async (what) => {
      const one = (await client()).send(`${what} HTTP/1.1\nhost: a\n\n`);
      const head = await one.until(({ text }) => text.endsWith('\r\n\r\n'));
      expect(head).not.toContain('transfer-encoding');
      one.send('GET /next HTTP/1.1\nhost: a\n\n');
      expect((await one.sees('GET ')).slice(head.length)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    },
  );
});

describe('answers before the answer', () => {
  test('100 is sent where the body is wanted, once', async () => {
    const one = (await client()).send(
      'POST / HTTP/1.1\nhost: a\nexpect: 100-continue\ncontent-length: 4\n\n',
    );
    expect(await one.sees('100 Continue')).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    one.send('body');
    await one.sees('POST body');
    expect(one.text.split('100 Continue')).toHaveLength(2);
  });

  test('and not where the request is refused', async () => {
    await world.tell({
      routes: [{ service: shopKey, http: [route({ matches: [match({ path: prefix('/x') })] })] }],
    });
    const one = (await client()).send(
      'POST / HTTP/1.1\nhost: a\nexpect: 100-continue\ncontent-length: 4\n\n',
    );
    expect(await one.sees('404')).not.toContain('100 Continue');
  });

  test('103 comes at once', async () => {
    const one = (await client()).send('GET /hints HTTP/1.1\nhost: a\n\n');
    await one.sees('rel=preload\r\n');
    expect(one.text).toMatch(/^HTTP\/1\.1 103 /);
    expect(await one.sees('late')).toContain('HTTP/1.1 200 OK');
  });
});

describe('changes of protocol', () => {
  const wish = (path: string, upgrade: string, lines = ''): string =>
    `GET ${path} HTTP/1.1\nhost: a\nconnection: Upgrade\nupgrade: ${upgrade}\n${lines}\n`;

  test('WebSocket: bytes both ways, an end each way', async () => {
    const one = (await client()).send(wish('/ws', 'WebSocket', 'sec-websocket-version: 13\n'));
    const head = await one.sees('hello');
    expect(head).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/);
    expect(head.toLowerCase()).toContain('upgrade: websocket');
    one.send('ping');
    await one.sees('ping');
    one.stream.end();
    await one.sees('bye');
  });

  test('WebSocket: its answer is changed as any other, but for what makes it one', async () => {
    const add = (name: string) => ({ ...noChanges, add: [[name, '1']] });
    const changes = {
      remove: ['x-endpoint', 'upgrade', 'connection'],
      set: [
        ['x-set', '1'],
        ['upgrade', 'other'],
      ],
      add: [['x-add', '1']],
    };
    const cors = {
      allowOrigins: [{ kind: 'exact', value: 'https://a.example' }],
      allowMethods: [],
      allowHeaders: [],
      exposeHeaders: [],
      allowCredentials: false,
      forwardUnmatchedPreflights: true,
    };
    const target = { kind: 'service', service: shopKey, port: 80 };
    const action = forward({ weight: 1, target, request: noChanges, response: add('x-of-target') });
    const key = { kind: 'cookie', name: 'who', path: '/', ttlSeconds: 60, attributes: [] };
    const balancing = { kind: 'ring-hash', key, minimumRingSize: 100 };
    await world.tell({
      routes: [{ service: shopKey, http: [route({ action, cors, response: changes })] }],
      clusters: [
        {
          service: shopKey,
          policy: { ...defaultTraffic, balancing },
          subsets: [],
        },
      ],
    });
    const one = (await client()).send(wish('/ws', 'websocket', 'origin: https://a.example\n'));
    const head = (await one.sees('hello')).toLowerCase();
    expect(head).toMatch(/^http\/1\.1 101 /);
    for (const line of [
      'x-set: 1',
      'x-add: 1',
      'x-of-target: 1',
      'access-control-allow-origin: https://a.example',
      'upgrade: websocket',
      'connection: upgrade',
    ]) {
      expect(head).toContain(`\r\n${line}\r\n`);
    }
    expect(head).toContain('set-cookie: who=');
    expect(head).not.toContain('x-endpoint');
    one.send('ping');
    await one.sees('ping');
    await world.tell({ clusters: [{ service: shopKey, policy: defaultTraffic, subsets: [] }] });
  });

  test('WebSocket that the endpoint refuses is an answer as any other', async () => {
    const one = (await client()).send(wish('/no', 'websocket'));
    expect(await one.sees('no')).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('anything else is refused', async () => {
    const before = backend.requests.length;
    const one = (await client()).send(wish('/', 'other'));
    expect(await one.sees('\r\n\r\n')).toMatch(/^HTTP\/1\.1 403 /);
    expect(backend.requests.length).toBe(before);
  });

  test('an offer of HTTP/2 is not taken, and the request goes on', async () => {
    const one = (await client()).send(
      'POST / HTTP/1.1\nhost: a\nconnection: Upgrade, HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AAMAAABkAAQAAP__\ncontent-length: 2\n\nhi',
    );
    await one.sees('POST hi');
    expect(backend.requests.at(-1)?.headers).not.toHaveProperty('http2-settings');
    expect(backend.requests.at(-1)?.headers.upgrade).toBeUndefined();
  });

  test('CONNECT is refused', async () => {
    const one = (await client()).send('CONNECT a:80 HTTP/1.1\nhost: a:80\n\n');
    expect(await one.sees('\r\n\r\n')).toMatch(/^HTTP\/1\.1 405 /);
  });
});

test('HTTP/1.0 gets no chunks, and the end of the connection for the end of the answer', async () => {
  const one = (await client()).send('GET /events HTTP/1.0\n\n');
  await one.sees('data: 1');
  more();
  const text = await one.until(({ ended }) => ended);
  expect(text).not.toContain('transfer-encoding');
  expect(text).toMatch(/\r\n\r\ndata: 1\n\ndata: 2\n\n$/);
  expect(backend.requests.at(-1)?.headers.host).toBe('shop.test.svc.cluster.local');
});

describe('connections of other protocols', () => {
  test.each([
    ['a port without a protocol, after a while', 83, 2_000],
    ['a port of a protocol whose server speaks first, at once', 84, 400],
  ])('%s', async (_name, port, ms) => {
    const started = performance.now();
    const one = await client(port);
    await one.sees('220 welcome');
    expect(performance.now() - started).toBeLessThan(ms);
    one.send('line');
    await one.sees('line');
    one.stream.end();
    await one.sees('bye');
  });
});
