import { once } from 'node:events';
import { connect } from 'node:http2';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { PolicyKey } from '@ambit/api';
import { decodeGateway, decodeWith } from '@ambit/api';
import { normalizePath } from '@ambit/core';
import type { Backend, WaypointWorld } from './world.ts';
import {
  endpointOf,
  shopKey,
  shopService,
  startBackend,
  startWorld,
  waypointKey,
} from './world.ts';

let world: WaypointWorld;
let backend: Backend;
const own = 'spiffe://cluster.local/ns/test/sa/waypoint';
const client = 'spiffe://cluster.local/ns/test/sa/client';

beforeAll(async () => {
  backend = await startBackend('v1');
  world = await startWorld({ workloads: [endpointOf(backend)], services: [shopService()] });
});
afterAll(async () => {
  await world.close();
  await backend.close();
});

const told = new Set<string>();
afterEach(async () => {
  const names = [...told].map((name) => ({ type: 'policy' as const, name: name as PolicyKey }));
  told.clear();
  if (names.length > 0) await world.controller.push([], names);
});

async function policy(
  name: string,
  fields: Record<string, unknown>,
  when: Record<string, unknown>[] = [],
): Promise<void> {
  told.add(`test/${name}`);
  const scope = { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] };
  const rules = [{ from: [], to: [], when }];
  await world.tell({ policies: [{ name, scope, rules, ...fields }] });
}

function header(name: string, value: string): Record<string, unknown> {
  return {
    kind: 'request',
    attribute: { kind: 'header', name },
    values: [{ kind: 'exact', value }],
    notValues: [],
  };
}

let gatewayVersion = 0;
async function gateway(fields: Record<string, unknown>): Promise<void> {
  gatewayVersion += 1;
  const decoded = decodeWith(decodeGateway, {
    name: 'waypoint',
    namespace: 'test',
    className: 'istio-waypoint',
    waypointFor: 'service',
    identity: own,
    service: waypointKey,
    xfccClientIdentity: false,
    trustedForwarders: [],
    ...fields,
  });
  if (!decoded.ok) throw new TypeError(decoded.error.message);
  const version = `g${gatewayVersion}` as never;
  await world.tell({
    more: [{ type: 'gateway', name: 'test/waypoint', version, resource: decoded.value }],
  });
}

describe('what a head says of its message can be asked for by name', () => {
  const handshake = { connection: 'Upgrade, close', upgrade: 'websocket' };
  test.each([
    ['upgrade', 'websocket'],
    [':method', 'GET'],
    [':path', '/'],
    [':scheme', 'http'],
    ['host', 'shop.test'],
  ])('DENY of %s: %s', async (name, value) => {
    await policy('by-name', {}, [header(name, 'another')]);
    const passed = world.ask({ headers: { ...handshake, 'x-a': 'b' } });
    expect((await passed).status).toBe(200);
    await policy('by-name', {}, [header(name, value)]);
    expect((await world.ask({ headers: handshake })).status).toBe(403);
  });
});

describe('what only the proxy may say of a client', () => {
  const forged = {
    'x-forwarded-client-cert': `By=${own};URI=spiffe://cluster.local/ns/x/sa/forged`,
    'x-forwarded-for': '1.2.3.4',
    'x-forwarded-host': 'evil.test',
    'x-forwarded-proto': 'https',
    'x-envoy-original-path': '/admin',
    'x-envoy-internal': 'true',
    'x-ambit-client-identity': 'spiffe://cluster.local/ns/x/sa/forged',
  };

  test('is taken away and said anew', async () => {
    await gateway({ xfccClientIdentity: true });
    expect((await world.ask({ headers: forged })).status).toBe(200);
    const { headers } = backend.requests.at(-1) ?? {};
    expect(headers).toMatchObject({
      'x-forwarded-client-cert': `By=${own};URI=${client}`,
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
    });
    for (const name of [
      'x-forwarded-host',
      'x-envoy-original-path',
      'x-envoy-internal',
      'x-ambit-client-identity',
    ]) {
      expect(headers).not.toHaveProperty(name);
    }
  });

  test('names no client without the annotation, and passes nothing on', async () => {
    await gateway({ xfccClientIdentity: false });
    expect((await world.ask({ headers: forged })).status).toBe(200);
    expect(backend.requests.at(-1)?.headers).not.toHaveProperty('x-forwarded-client-cert');
  });

  test('is judged as the proxy says it, not as the client does', async () => {
    await policy('forged', { action: 'ALLOW' }, [header('x-forwarded-proto', 'https')]);
    expect((await world.ask({ headers: forged })).status).toBe(403);
  });

  test('is nothing that a client of HTTP/2 says of its scheme', async () => {
    await policy('forged', { action: 'ALLOW' }, [header('x-forwarded-proto', 'https')]);
    const stream = await world.tunnel(80, 'client');
    stream.on('error', () => undefined);
    const session = connect('http://shop.test', { createConnection: () => stream });
    const asked = session.request({ ':path': '/', ':scheme': 'https' });
    const [answer] = (await once(asked, 'response')) as [Record<string, unknown>];
    session.destroy();
    expect(answer[':status']).toBe(403);
  });

  test.each(Object.keys(forged))('%s: its twin and its nomination are refused', async (name) => {
    const twin = name.replaceAll('-', '_');
    expect((await world.ask({ headers: { [twin]: 'x' } })).status).toBe(400);
    const nominated = { connection: `close, ${name}`, [name]: 'x' };
    expect((await world.ask({ headers: nominated })).status).toBe(400);
  });

  test('what Connection names is neither judged nor forwarded, and cannot be an own field', async () => {
    const headers = { connection: 'close, x-mine', 'x-mine': 'yes' };
    await policy('mine', {}, [header('x-mine', 'yes')]);
    expect((await world.ask({ headers: { 'x-mine': 'yes' } })).status).toBe(403);
    expect((await world.ask({ headers })).status).toBe(200);
    expect(backend.requests.at(-1)?.headers).not.toHaveProperty('x-mine');
    const hiding = { connection: 'close, authorization', authorization: 'Bearer x' };
    expect((await world.ask({ headers: hiding })).status).toBe(400);
  });

  test('a proxy that the Gateway trusts is believed about its client, and policies too', async () => {
    await gateway({ trustedForwarders: ['spiffe://cluster.local/ns/test/sa/ingress'] });
    const blocks = { kind: 'address', attribute: 'remote.ip', notValues: [] };
    await policy('by-address', {}, [
      { ...blocks, values: [{ ip: '203.0.113.0', prefixLength: 24 }] },
    ]);
    const from = (ip: string) => ({ 'x-forwarded-for': ip, 'x-forwarded-proto': 'https' });
    expect((await world.ask({ as: 'ingress', headers: from('203.0.113.9') })).status).toBe(403);
    expect(
      (await world.ask({ as: 'ingress', headers: from('203.0.113.9, 198.51.100.1') })).status,
    ).toBe(200);
    expect(backend.requests.at(-1)?.headers).toMatchObject({
      'x-forwarded-for': '203.0.113.9, 198.51.100.1, 127.0.0.1',
      'x-forwarded-proto': 'https',
    });
    expect((await world.ask({ headers: from('203.0.113.9') })).status).toBe(200);
    expect(backend.requests.at(-1)?.headers['x-forwarded-for']).toBe('127.0.0.1');
    await gateway({});
  });
});

describe('a header that comes twice', () => {
  test('is refused where one of its values is, and allowed only where all are', async () => {
    const both = { 'x-role': ['guest', 'admin'] };
    await policy('deny', {}, [header('x-role', 'admin')]);
    expect((await world.ask({ headers: both })).status).toBe(403);
    expect((await world.ask({ headers: { 'x-role': 'guest, admin' } })).status).toBe(403);
    expect((await world.ask({ headers: { 'x-role': 'guest' } })).status).toBe(200);
    await policy('deny', { action: 'ALLOW' }, [header('x-role', 'admin')]);
    expect((await world.ask({ headers: both })).status).toBe(403);
    expect((await world.ask({ headers: { 'x-role': 'admin' } })).status).toBe(200);
  });
});

describe('policies that decide nothing', () => {
  const lines = (text: string) => world.log.filter((line) => line.includes(text));

  test('dry run is counted and told with the name of the policy', async () => {
    await policy('rehearsed', { dryRun: true }, [header('x-bad', 'yes')]);
    expect((await world.ask({ headers: { 'x-bad': 'yes' }, path: '/dry' })).status).toBe(200);
    expect((await world.ask({})).status).toBe(200);
    const text = await world.metrics.render();
    expect(text).toContain('ambit_dry_run_total{policy="test/rehearsed",would="deny"} 1');
    expect(
      lines('dry run: the policy would deny this').map((line) => JSON.parse(line) as unknown),
    ).toMatchObject([
      {
        policy: 'test/rehearsed',
        path: '/dry',
        method: 'GET',
        'src.identity': client,
        verdict: 'allow',
      },
    ]);
  });

  test('AUDIT is counted and told', async () => {
    await policy('watched', { action: 'AUDIT' }, [header('x-watch', 'yes')]);
    expect((await world.ask({ headers: { 'x-watch': 'yes' }, path: '/seen' })).status).toBe(200);
    expect(await world.metrics.render()).toContain('ambit_audited_total{policy="test/watched"} 1');
    expect(lines('audit: ').map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { policy: 'test/watched', path: '/seen' },
    ]);
  });
});

test('the bytes that are judged are the bytes that are forwarded: 400 made-up targets', async () => {
  await policy('no-admin', {}, [
    {
      kind: 'request',
      attribute: { kind: 'path' },
      values: [{ kind: 'prefix', value: '/admin' }],
      notValues: [],
    },
  ]);
  const words = [
    '/',
    '//',
    '.',
    '..',
    '%2e',
    '%2f',
    '%5c',
    '\\',
    'admin',
    'a',
    '%61dmin',
    '%25',
    ';',
    '%c0%af',
    '%00',
    '~',
    '?',
    '=',
  ];
  let seed = 7;
  const random = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
  const seen = new Map<number, number>();
  for (let round = 0; round < 400; round += 1) {
    let path = '/';
    for (let at = Math.floor(random() * 6); at >= 0; at -= 1) {
      path += words[Math.floor(random() * words.length)] ?? '';
    }
    const before = backend.requests.length;
    const { status } = await world.ask({ path });
    seen.set(status, (seen.get(status) ?? 0) + 1);
    const forwarded = backend.requests.slice(before).map(({ url }) => url);
    const normal = normalizePath(path);
    const expected = !normal.ok ? 400 : normal.value.startsWith('/admin') ? 403 : 200;
    expect({ path, status, forwarded }).toEqual({
      path,
      status: expected,
      forwarded: expected === 200 && normal.ok ? [normal.value] : [],
    });
  }
  expect([...seen.keys()].sort()).toEqual([200, 400, 403]);
}, 30_000);
