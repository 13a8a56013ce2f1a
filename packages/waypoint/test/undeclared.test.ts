import type { Upsert } from '@ambit/api';
import { decodeAuthentication, decodeWith, noChanges } from '@ambit/api';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

/** A port of which nobody has said what it speaks. */
let world: WaypointWorld;
let backend: Backend;

beforeAll(async () => {
  backend = await startBackend('v1');
  world = await startWorld({
    workloads: [endpointOf(backend)],
    services: [shopService({ ports: [{ name: '', port: 80, appProtocol: '' }] })],
  });
});
afterAll(async () => {
  await world.close();
  await backend.close();
});

/** What comes back for bytes that are sent after a while. */
async function send(text: string, afterMs = 0): Promise<string> {
  const stream = await world.tunnel(80);
  return new Promise((resolve) => {
    let answer = '';
    stream.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
    stream.on('error', () => resolve(answer || 'cut'));
    stream.on('close', () => resolve(answer || 'cut'));
    setTimeout(() => stream.end(text), afterMs);
  });
}

const request = 'GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n';

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
            matches: [],
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
