import type { Socket } from 'node:net';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { frame, preface } from './frames.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startStreamingBackend, startWorld } from './world.ts';

/** Peers on 15008 that stop before they have said who they are or what they want (security.md T15). */
let world: WaypointWorld;
let backend: Backend;

const block = Buffer.alloc(64 * 1024);
const bigBlocks = 16 * 16;

beforeAll(async () => {
  backend = await startStreamingBackend('shop', '/big', { block, count: bigBlocks });
  world = await startWorld({ services: [shopService()], workloads: [endpointOf(backend)] });
}, 30_000);

afterAll(async () => {
  await world.close();
  await backend.close();
});

function cutAfterMs(socket: Socket): Promise<number> {
  const began = performance.now();
  socket.on('error', () => undefined);
  socket.resume();
  return new Promise((resolve) => {
    socket.once('close', () => resolve(performance.now() - began));
  });
}

function silent(bytes?: Buffer): Socket {
  const socket = connectTcp({ port: world.waypoint.port, host: '127.0.0.1' });
  if (bytes !== undefined) socket.write(bytes);
  return socket;
}

async function secured(bytes?: Buffer): Promise<Socket> {
  const { chain, privateKey } = await world.ca.issue('spiffe://cluster.local/ns/test/sa/slow');
  const socket = connectTls({
    port: world.waypoint.port,
    host: '127.0.0.1',
    cert: chain.join(''),
    key: privateKey,
    ca: world.ca.rootPem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
  });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  if (bytes !== undefined) socket.write(bytes);
  return socket;
}

test('whoever stops half way is cut at about five seconds, while a good client goes on', async () => {
  let over = false;
  const statuses = new Set<number>();
  const good = (async () => {
    while (!over) {
      statuses.add((await world.ask({ as: 'good' })).status);
      await sleep(10);
    }
  })();
  const half = frame(1, 0, 1, Buffer.from([0x82]));
  const kinds = await Promise.all(
    [
      ...Array.from({ length: 20 }, () => silent()),
      ...Array.from({ length: 20 }, () => silent(Buffer.from('1603010200010001fc0303', 'hex'))),
      await secured(),
      await secured(preface.subarray(0, 10)),
      await secured(Buffer.concat([preface, half])),
    ].map((socket) => cutAfterMs(socket)),
  );
  over = true;
  await good;
  expect([...statuses]).toEqual([200]);
  for (const cutAfter of kinds) {
    expect(cutAfter).toBeGreaterThan(3_000);
    expect(cutAfter).toBeLessThan(9_000);
  }
}, 30_000);

test('thirty readers that have stopped hold their windows, and not their answers', async () => {
  const before = process.memoryUsage().rss;
  const request = 'GET /big HTTP/1.1\r\nHost: shop.test\r\n\r\n';
  const tunnels = [];
  // All of them first: a handshake has to be through in five seconds, however much is being sent already.
  for (let at = 0; at < 30; at += 1) {
    const tunnel = await world.tunnel(80, `stopped-${at % 10}`);
    tunnel.on('error', () => undefined);
    tunnels.push(tunnel);
  }
  for (const tunnel of tunnels) tunnel.write(request);
  await sleep(1_500);
  const statuses = await Promise.all(
    Array.from({ length: 20 }, async () => (await world.ask({ as: 'good' })).status),
  );
  expect(new Set(statuses)).toEqual(new Set([200]));
  const heldMiB = (process.memoryUsage().rss - before) / 2 ** 20;
  for (const tunnel of tunnels) tunnel.destroy();
  // 480 MiB were asked for. Windows of the clients (4 MiB each, as in Istio) and garbage are in this process too.
  expect(heldMiB).toBeLessThan(30 * 8);
}, 30_000);
