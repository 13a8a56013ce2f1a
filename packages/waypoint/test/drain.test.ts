import { createHash, randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, expect, test } from '@jest/globals';
import type { SpiffeIdentity } from '@ambit/api';
import { parseIp, parsePort, parseSpiffeIdentity } from '@ambit/api';
import type { HbonePool, PoolKey } from '@ambit/core';
import { copyBothWays, createHbonePool, socketStream } from '@ambit/core';
import { askGrpc, get, startGrpc, wholeStream } from './clients.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startBackend, startWorld, vip } from './world.ts';

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const times = { preDrainMs: 300, drainMs: 6_000 };

/** Two replicas behind a port of TCP that does what a node proxy does: a tunnel for each connection, by the pool. */
class Replicas {
  readonly worlds: readonly WaypointWorld[];
  readonly port: number;
  #chosen = 0;

  constructor(worlds: readonly WaypointWorld[], server: Server, pools: readonly HbonePool[]) {
    this.worlds = worlds;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket: Socket) => {
      const near = socketStream(socket);
      const world = worlds[this.#chosen];
      const pool = pools[this.#chosen];
      if (world === undefined || pool === undefined) throw new TypeError('no such replica');
      pool.connect(keyOf(world), { authority, headers: [], timeoutMs: 5_000 }).then(
        ({ stream }) => void copyBothWays(near, stream),
        () => socket.resetAndDestroy(),
      );
    });
  }

  /** Stops the first; the word of it is with the clients within the time before the drain. */
  async stopFirst(): Promise<void> {
    setTimeout(() => (this.#chosen = 1), times.preDrainMs / 2);
    await this.worlds[0]?.waypoint.stop();
  }
}

const authority = addressOf(vip, 80);

function addressOf(host: string, number: number) {
  const ip = parseIp(host);
  const port = parsePort(number);
  if (!ip.ok || !port.ok) throw new TypeError('no address');
  return { kind: 'address', ip: ip.value, port: port.value } as const;
}

function identity(name: string): SpiffeIdentity {
  const made = parseSpiffeIdentity(`spiffe://cluster.local/ns/test/sa/${name}`);
  if (!made.ok) throw new TypeError('no identity');
  return made.value;
}

function keyOf({ waypoint }: WaypointWorld): PoolKey {
  return {
    source: identity('client'),
    sourceIp: addressOf('127.0.0.1', 1).ip,
    nextHop: addressOf('127.0.0.1', waypoint.port),
    expected: new Set([identity('waypoint').uri]),
  };
}

async function replicas(nouns: Parameters<typeof startWorld>[0]): Promise<Replicas> {
  const worlds = [await startWorld(nouns, { ...times }), await startWorld(nouns, { ...times })];
  const pools = worlds.map(({ ca }) => {
    const certificate = ca.certificate('spiffe://cluster.local/ns/test/sa/client');
    return createHbonePool({
      dial: ({ nextHop }) => connect({ host: nextHop.ip, port: nextHop.port, noDelay: true }),
      certificate: () => certificate,
    });
  });
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(async () => {
    server.close();
    for (const pool of pools) pool.destroy(() => true);
    for (const world of worlds) await world.close();
  });
  return new Replicas(worlds, server, pools);
}

async function shop(): Promise<{ both: Replicas; backend: Backend }> {
  const backend = await startBackend('shop', (request, response) => {
    request.resume();
    setTimeout(() => response.end('fine'), request.url === '/slow' ? 1_000 : 2);
  });
  backend.server.on('upgrade', (request, socket: Duplex) => {
    const accept = createHash('sha1')
      .update(`${request.headers['sec-websocket-key'] ?? ''}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
    );
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  closing.push(() => backend.close());
  return {
    backend,
    both: await replicas({ services: [shopService()], workloads: [endpointOf(backend)] }),
  };
}

interface Load {
  readonly outcomes: Map<string, number>;
  stop(): Promise<void>;
}

/** Asks again and again, one after the other in each of so many lines, and counts what comes of it. */
function load(lines: number, ask: (line: number) => Promise<string>): Load {
  const outcomes = new Map<string, number>();
  let over = false;
  const work = Array.from({ length: lines }, async (_, line) => {
    while (!over) {
      const outcome = await ask(line).catch((error: unknown) => `failed: ${String(error)}`);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  return {
    outcomes,
    async stop() {
      over = true;
      await Promise.all(work);
    },
  };
}

test('an idle connection of HTTP/1.1 is served once more and told that this was the last time', async () => {
  const { both } = await shop();
  const stream = connect(both.port);
  closing.push(() => void stream.destroy());
  const read = (): Promise<string> =>
    new Promise((resolve) => stream.once('data', (chunk: Buffer) => resolve(chunk.toString())));
  const ask = 'GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n';
  stream.write(ask);
  expect(await read()).toMatch(/^HTTP\/1\.1 200 OK\r\n(?!.*connection: close)/s);
  const stopped = both.stopFirst();
  await new Promise((resolve) => setTimeout(resolve, times.preDrainMs + 700));
  stream.write(ask);
  expect(await read()).toMatch(/^HTTP\/1\.1 200 OK\r\n.*connection: close\r\n/s);
  const began = performance.now();
  await stopped;
  expect(performance.now() - began).toBeLessThan(2_000);
});

test('an answer that began before the drain does not end its connection unannounced', async () => {
  const { both } = await shop();
  const keep = new Agent({ keepAlive: true, maxSockets: 1 });
  closing.push(() => keep.destroy());
  const slow = get(keep, both.port, '/slow');
  await new Promise((resolve) => setTimeout(resolve, 50));
  const stopped = both.stopFirst();
  expect(await slow).toBe('200 fine');
  expect(await get(keep, both.port)).toBe('200 fine');
  expect(await get(keep, both.port)).toBe('200 fine');
  await stopped;
});

test('a replica that stops under load of kept and of new connections loses no request', async () => {
  const { both, backend } = await shop();
  const kept = new Agent({ keepAlive: true });
  const fresh = new Agent({ keepAlive: false });
  closing.push(() => {
    kept.destroy();
    fresh.destroy();
  });
  // Rare ones too: their connections are idle while the drain begins.
  const loads = [
    load(8, () => get(kept, both.port)),
    load(4, () => get(fresh, both.port)),
    load(2, () => get(kept, both.port, '/slow')),
    load(6, async (line) => {
      await new Promise((resolve) => setTimeout(resolve, 150 + line * 60));
      return get(kept, both.port);
    }),
  ];
  await new Promise((resolve) => setTimeout(resolve, 400));
  await both.stopFirst();
  await Promise.all(loads.map((one) => one.stop()));
  for (const { outcomes } of loads) expect([...outcomes.keys()]).toEqual(['200 fine']);
  expect(backend.requests.length).toBeGreaterThan(150);
});

test('HTTP/2: calls and streams of a replica that stops end well, and new ones go elsewhere', async () => {
  const grpc = await startGrpc('127.0.2.1');
  closing.push(() => grpc.close());
  const { port } = grpc;
  const both = await replicas({
    services: [shopService({ ports: [{ name: 'grpc', port: 80, appProtocol: '' }] })],
    workloads: [endpointOf({ ip: '127.0.2.1', port, name: 'grpc' } as Backend)],
  });
  const client = () => {
    const session = connectHttp2(`http://127.0.0.1:${both.port}`);
    session.on('error', () => undefined);
    closing.push(() => {
      session.destroy();
    });
    return session;
  };
  let session = client();
  /** As every client of HTTP/2: what was refused was not acted on (RFC 9113 §8.7), and is asked again. */
  const call = async (path: string): Promise<string> => {
    try {
      return await ask(path);
    } catch (error) {
      if (!String(error).includes('REFUSED_STREAM')) throw error;
      session = client();
      return ask(path);
    }
  };
  const ask = (path: string): Promise<string> => {
    if (session.closed || session.destroyed) session = client();
    return askGrpc(session, path);
  };
  const streams = Promise.all([call('/stream'), call('/stream')]);
  const calls = load(1, () => call('/call'));
  await new Promise((resolve) => setTimeout(resolve, 100));
  await both.stopFirst();
  await calls.stop();
  expect(await streams).toEqual([wholeStream, wholeStream]);
  expect([...calls.outcomes.keys()]).toEqual(['0 fine']);
});

test('a WebSocket that ends within the time is not cut, and one that does not holds nothing up beyond it', async () => {
  const { both } = await shop();
  const open = async (): Promise<Socket> => {
    const stream = connect(both.port);
    stream.on('error', () => undefined);
    closing.push(() => void stream.destroy());
    stream.write(
      `GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
    );
    await new Promise((resolve) => stream.once('data', resolve));
    return stream;
  };
  const [first, second] = [await open(), await open()];
  const began = performance.now();
  const stopped = both.stopFirst();
  await new Promise((resolve) => setTimeout(resolve, times.preDrainMs + 1_500));
  first.write('still here');
  expect(String(await new Promise((resolve) => first.once('data', resolve)))).toBe('still here');
  first.end();
  const cut = new Promise((resolve) => second.once('close', resolve));
  await stopped;
  await cut;
  const took = performance.now() - began;
  expect(took).toBeGreaterThan(times.preDrainMs + times.drainMs - 200);
  expect(took).toBeLessThan(times.preDrainMs + times.drainMs + 1_000);
});
