import { createServer, connect } from 'node:http2';
import type { ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { defaultHttp1Limits } from '../src/http1/limits.ts';
import type { Backend, WaypointWorld } from './world.ts';
import {
  endpointOf,
  openTunnel,
  shopService,
  startBackend,
  startWorld,
  startWorldOfBoth,
} from './world.ts';

/** Ports that are HTTP by their name: 80 is `http`, 81 is `grpc`. */
let world: WaypointWorld;
let plain: Backend;
const grpc = createServer();

beforeAll(async () => {
  plain = await startBackend('plain');
  grpc.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 });
    stream.end('h2');
  });
  world = await startWorldOfBoth(plain, grpc, '127.0.1.7');
}, 30_000);
afterAll(async () => {
  await world.close();
  await plain.close();
  await new Promise<void>((resolve) => grpc.close(() => resolve()));
});

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** All that comes on a connection until it ends. */
function whole(stream: Duplex): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    stream.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
    stream.on('error', (error) => resolve(answer || error.message));
    stream.on('end', () => {
      stream.end();
      resolve(answer);
    });
  });
}

const request = 'GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n';

test.each([80, 81])('HTTP/1.1 that comes late on port %d is understood', async (port) => {
  const stream = await world.tunnel(port);
  const answer = whole(stream);
  await sleep(900);
  stream.write(request);
  expect(await answer).toMatch(/^HTTP\/1\.1 200 /);
});

test.each([80, 81])('HTTP/2 that comes late on port %d is understood', async (port) => {
  const stream = await world.tunnel(port);
  await sleep(900);
  const session = connect('http://shop.test', { createConnection: () => stream });
  const status = await new Promise((resolve) => {
    session.on('error', (error) => resolve(error.message));
    const call = session.request({ ':path': '/' });
    call.on('error', (error) => resolve(error.message));
    call.on('response', (headers) => resolve(headers[':status']));
  });
  session.destroy();
  expect(status).toBe(200);
});

test('a method that begins as the preface of HTTP/2 may take its time', async () => {
  const stream = await world.tunnel(80);
  const answer = whole(stream);
  stream.write('P');
  await sleep(900);
  stream.write(
    'OST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
  );
  expect(await answer).toMatch(/^HTTP\/1\.1 200 /);
});

test('who says nothing is let go when a connection has been idle for long enough, or at the end of a drain', async () => {
  const ports = [{ name: 'http', port: 80, appProtocol: '' }];
  const nouns = { workloads: [endpointOf(plain)], services: [shopService({ ports })] };
  const limits = { ...defaultHttp1Limits, idleTimeoutMs: 800 };
  const brief = await startWorld(nouns, { limits });
  const started = performance.now();
  expect(await whole(await openTunnel(await brief.session(), 80))).toBe('');
  expect(performance.now() - started).toBeLessThan(15_000);
  await brief.close();
  const patient = await startWorld(nouns, { drainMs: 2_000 });
  const answer = whole(await openTunnel(await patient.session(), 80));
  const late = await openTunnel(await patient.session(), 80);
  const lateAnswer = whole(late);
  const stopped = patient.waypoint.stop();
  await sleep(300);
  late.write(request);
  expect(await lateAnswer).toMatch(/^HTTP\/1\.1 200 /);
  expect(await answer).toBe('');
  await stopped;
  await patient.close();
}, 20_000);
