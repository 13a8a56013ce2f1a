import type { Http2Server, ServerHttp2Stream } from 'node:http2';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import type { ProviderAddress } from '@ambit/api';
import { parseHostname, parsePort } from '@ambit/api';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { HttpCall } from '../src/client/http.ts';
import type { NodeProxy } from './node-proxy.ts';
import { startNodeProxy } from './node-proxy.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startBackend, startWorld } from './world.ts';

function at(host: string, port: number, namespace?: string): ProviderAddress {
  const parsed = [parseHostname(host), parsePort(port)] as const;
  if (!parsed[0].ok || !parsed[1].ok) throw new TypeError('no address');
  return {
    host: parsed[0].value,
    port: parsed[1].value,
    ...(namespace === undefined ? {} : { namespace }),
  };
}

const meshedIp = '127.0.4.1';
const shop = at('shop.test.svc.cluster.local', 80);

describe('the client with which a waypoint itself asks', () => {
  let world: WaypointWorld;
  let backend: Backend;
  let node: NodeProxy;
  let answering: (socket: Socket) => void;
  const raw = createServer((socket) => {
    socket.on('error', () => undefined);
    answering(socket);
  });
  let grpc: Http2Server;
  let onStream: (stream: ServerHttp2Stream) => void;
  const call = (changes: Partial<HttpCall> = {}): HttpCall => ({
    address: shop,
    method: 'GET',
    path: '/x',
    headers: [['host', 'shop']],
    timeoutMs: 2000,
    maxAnswerBytes: 1000,
    ...changes,
  });
  const rawCall = (changes: Partial<HttpCall> = {}): HttpCall =>
    call({ address: at('localhost', (raw.address() as AddressInfo).port), ...changes });

  beforeAll(async () => {
    backend = await startBackend('answers', (request, response) => {
      if (request.url === '/long') response.end('x'.repeat(2000));
      else if (request.url === '/moved') response.writeHead(302, { location: '/x' }).end();
      else if (request.url !== '/never') response.end(`hello ${request.socket.remotePort ?? 0}`);
    });
    grpc = createHttp2Server();
    grpc.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => undefined);
      onStream(stream);
    });
    await new Promise<void>((resolve) => grpc.listen(0, '127.0.0.1', resolve));
    await new Promise<void>((resolve) => raw.listen(0, '127.0.0.1', resolve));
    world = await startWorld({
      services: [shopService(), { name: 'meshed' }],
      workloads: [
        endpointOf(backend),
        {
          name: 'meshed',
          addresses: [meshedIp],
          serviceAccount: 'meshed',
          tunnel: 'hbone',
          services: [
            {
              service: 'test/meshed.test.svc.cluster.local',
              ready: true,
              ports: [{ servicePort: 80, targetPort: 8080 }],
            },
          ],
        },
      ],
    });
    node = await startNodeProxy(world.ca, meshedIp, backend);
  });
  afterAll(async () => {
    await world.close();
    await node.close();
    await backend.close();
    raw.close();
    grpc.close();
  });

  test('reaches an endpoint of a service and keeps the connection', async () => {
    const { http } = world.waypoint.context.client;
    const first = await http.request(call());
    expect(first.status).toBe(200);
    expect(first.body.toString()).toMatch(/^hello \d+$/);
    const bodies = new Set([first.body.toString()]);
    for (let count = 0; count < 20; count += 1) {
      bodies.add((await http.request(call())).body.toString());
    }
    // Two at most, because one that has just answered may not be free yet.
    expect(bodies.size).toBeLessThan(3);
    expect((await http.request(call({ address: at(shop.host, 80, 'test') }))).status).toBe(200);
  });

  test('reaches a service of the mesh in a tunnel, again and again, also many at once', async () => {
    const { http } = world.waypoint.context.client;
    const asked = call({ address: at('meshed.test.svc.cluster.local', 80), timeoutMs: 10_000 });
    for (let count = 0; count < 20; count += 1) {
      expect((await http.request(asked)).body.toString()).toMatch(/^hello \d+$/);
    }
    const many = await Promise.all(
      Array.from({ length: 100 }, () =>
        http.request({ ...asked, method: 'POST', body: Buffer.alloc(100_000) }),
      ),
    );
    expect(many.filter(({ status }) => status === 200)).toHaveLength(100);
    expect(new Set(node.authorities)).toEqual(new Set([`${meshedIp}:8080`]));
    await expect(http.request({ ...asked, path: '/long' })).rejects.toThrow('an answer over 1000');
    await expect(http.request({ ...asked, path: '/never', timeoutMs: 50 })).rejects.toThrow(
      'no answer in 50 ms',
    );
  });

  test('follows no redirect, takes no longer answer than allowed, waits no longer than told', async () => {
    const { http } = world.waypoint.context.client;
    expect((await http.request(call({ path: '/moved' }))).status).toBe(302);
    await expect(http.request(call({ path: '/long' }))).rejects.toThrow('an answer over 1000');
    await expect(http.request(call({ path: '/never', timeoutMs: 50 }))).rejects.toThrow(
      'no answer in 50 ms',
    );
  });

  test('gives up with whom the question was for, and the other side sees it', async () => {
    const leaving = new AbortController();
    const cut = new Promise<void>((resolve) => {
      answering = (socket) => {
        socket.once('data', () => leaving.abort(new Error('the client is gone')));
        socket.once('close', () => resolve());
      };
    });
    const { http } = world.waypoint.context.client;
    await expect(http.request(rawCall({ signal: leaving.signal }))).rejects.toThrow(
      'the client is gone',
    );
    await cut;
  });

  test.each([
    ['nonsense', 'no HTTP at all\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab'],
    ['an answer cut short', 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab'],
    ['a head without end', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}`],
  ])('%s is no answer', async (_what, bytes) => {
    answering = (socket) => socket.once('data', () => socket.end(bytes));
    const { http } = world.waypoint.context.client;
    await expect(http.request(rawCall())).rejects.toThrow();
  });

  test('a service without such a port or without endpoints, and a name nobody knows, are told', async () => {
    const { http } = world.waypoint.context.client;
    await expect(http.request(call({ address: at(shop.host, 81) }))).rejects.toThrow(
      'has no port 81',
    );
    await expect(
      http.request(call({ address: at('nobody.invalid', 80), timeoutMs: 5000 })),
    ).rejects.toThrow();
  });

  const unary = (changes: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
    world.waypoint.context.client.grpc.unary({
      address: at('localhost', (grpc.address() as AddressInfo).port),
      path: '/test.Echo/Say',
      message: Buffer.from('question'),
      timeoutMs: 2000,
      maxAnswerBytes: 1000,
      ...changes,
    });

  function answers(message: Buffer, status: string): (stream: ServerHttp2Stream) => void {
    return (stream) => {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc' },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
      stream.end(message);
    };
  }

  test('gRPC: one message for one message, on one session', async () => {
    const sessions = new Set<unknown>();
    onStream = (stream) => {
      sessions.add(stream.session);
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => answers(Buffer.concat(chunks), '0')(stream));
    };
    expect((await unary()).toString()).toBe('question');
    expect((await unary()).toString()).toBe('question');
    expect(sessions.size).toBe(1);
  });

  test('gRPC: failures, nonsense, silence and too long an answer are errors, and the next call is fine', async () => {
    onStream = answers(Buffer.alloc(0), '7');
    await expect(unary()).rejects.toThrow('gRPC status 7');
    onStream = answers(Buffer.from([0, 0, 0, 0, 9, 1]), '0');
    await expect(unary()).rejects.toThrow('no gRPC message');
    onStream = answers(Buffer.concat([Buffer.from([0, 0, 0, 7, 208]), Buffer.alloc(2000)]), '0');
    await expect(unary()).rejects.toThrow('an answer over 1000');
    onStream = (stream) => stream.respond({ ':status': 503 }, { endStream: true });
    await expect(unary()).rejects.toThrow('HTTP status 503');
    onStream = () => undefined;
    await expect(unary({ timeoutMs: 50 })).rejects.toThrow('no answer in 50 ms');
    onStream = (stream) => stream.session?.destroy();
    await expect(unary()).rejects.toThrow();
    onStream = answers(Buffer.from([0, 0, 0, 0, 1, 65]), '0');
    expect((await unary()).toString()).toBe('A');
  });
});
