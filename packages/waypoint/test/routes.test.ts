import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { noChanges } from '@ambit/api';
import { normalizeMatchedPath } from '@ambit/core';
import {
  exact,
  forward,
  match,
  nowhere,
  prefix,
  present,
  regex,
  route,
  subsets,
  to,
} from './nouns.ts';
import type { Asking, Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

let world: WaypointWorld;
let v1: Backend;
let v2: Backend;

beforeAll(async () => {
  v1 = await startBackend('v1');
  v2 = await startBackend('v2');
  world = await startWorld({
    services: [shopService()],
    workloads: [
      endpointOf(v1, { version: 'v1' }),
      endpointOf(v2, { version: 'v2' }),
      // The caller itself: every connection comes from loopback.
      { name: 'caller', namespace: 'callers', addresses: ['127.0.0.1'], labels: [['app', 'web']] },
    ],
    clusters: [subsets],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await v1.close();
  await v2.close();
});

async function routes(...http: Record<string, unknown>[]): Promise<void> {
  await world.tell({ routes: [{ service: shopKey, http }] });
}

/** As the controller compiles what a route says. */
function normal(written: string): string {
  const path = normalizeMatchedPath(written, 'whole');
  if (!path.ok) throw new Error(path.error);
  return path.value;
}

const toV2 = forward(to('v2'));

describe('a request is matched by', () => {
  const named = (name: string, how: object) => [{ name, match: how }];
  test.each<readonly [string, Record<string, unknown>, Asking[], Asking[]]>([
    [
      'uri exact',
      { path: exact('/a') },
      [{ path: '/a' }, { path: '/a?q=1' }, { path: '/x/../a' }],
      [{ path: '/a/' }, { path: '/A' }],
    ],
    ['uri prefix', { path: prefix('/a') }, [{ path: '/a' }, { path: '/abc' }], [{ path: '/b/a' }]],
    [
      'uri path prefix',
      { path: { kind: 'path-prefix', value: '/a' } },
      [{ path: '/a' }, { path: '/a/b' }],
      [{ path: '/abc' }],
    ],
    [
      'uri regex',
      { path: regex('/[0-9]+/x') },
      [{ path: '/42/x' }],
      [{ path: '/42/x/y' }, { path: '/a/x' }],
    ],
    [
      'uri whatever its case',
      { path: prefix('/AbC'), ignorePathCase: true },
      [{ path: '/aBc/d' }],
      [{ path: '/ab' }],
    ],
    [
      'uri exact, whatever needs no escape or is escaped in small letters',
      { path: exact(normal('/caf%c3%a9/%7Eu//x')) },
      [{ path: '/caf%c3%a9/%7Eu//x' }, { path: '/caf%C3%A9/~u/x' }],
      [{ path: '/caf%c3%a8/~u/x' }],
    ],
    [
      'uri path prefix with an escaped slash',
      { path: { kind: 'path-prefix', value: normal('/a%2fb') } },
      [{ path: '/a%2fb' }, { path: '/a%2Fb/c' }],
      [{ path: '/a%2fbc' }],
    ],
    ['scheme', { scheme: exact('http') }, [{}], []],
    ['another scheme', { scheme: exact('https') }, [], [{}]],
    ['method', { method: exact('PUT') }, [{ method: 'PUT' }], [{ method: 'POST' }, {}]],
    ['method regex', { method: regex('P.*') }, [{ method: 'PUT' }, { method: 'PATCH' }], [{}]],
    [
      'authority',
      { authority: exact('a.example') },
      [{ authority: 'A.Example' }, { authority: 'a.example:8080' }],
      [{ authority: 'b.example' }],
    ],
    [
      'authority prefix',
      { authority: prefix('a.') },
      [{ authority: 'a.b' }],
      [{ authority: 'b.a.' }],
    ],
    [
      'header exact',
      { headers: named('x-a', exact('1')) },
      [{ headers: { 'X-A': '1' } }],
      [{ headers: { 'x-a': '2' } }, {}],
    ],
    [
      'header prefix',
      { headers: named('x-a', prefix('1')) },
      [{ headers: { 'x-a': '12' } }],
      [{ headers: { 'x-a': '21' } }],
    ],
    [
      'header regex, whole',
      { headers: named('x-a', regex('a|b')) },
      [{ headers: { 'x-a': 'b' } }],
      [{ headers: { 'x-a': 'ab' } }],
    ],
    ['header present', { headers: named('x-a', present) }, [{ headers: { 'x-a': '' } }], [{}]],
    [
      'two headers',
      { headers: [...named('x-a', present), ...named('x-b', present)] },
      [{ headers: { 'x-a': '1', 'x-b': '1' } }],
      [{ headers: { 'x-a': '1' } }],
    ],
    [
      'a header that comes twice',
      { headers: named('x-a', exact('1,2')) },
      [{ headers: { 'x-a': ['1', '2'] } }],
      [{ headers: { 'x-a': '1' } }],
    ],
    [
      'a header that is not there',
      { withoutHeaders: named('x-a', present) },
      [{}],
      [{ headers: { 'x-a': '1' } }],
    ],
    [
      'a header that is otherwise',
      { withoutHeaders: named('x-a', regex('1.*')) },
      [{}, { headers: { 'x-a': '2' } }],
      [{ headers: { 'x-a': '12' } }],
    ],
    [
      'query',
      { query: named('q', exact('a b')) },
      [{ path: '/?q=a+b' }, { path: '/?z=1&q=a%20b' }],
      [{ path: '/?q=a' }, { path: '/' }],
    ],
    [
      'query regex',
      { query: named('q', regex('[0-9]+')) },
      [{ path: '/?q=12' }],
      [{ path: '/?q=1a' }],
    ],
    ['query present', { query: named('q', present) }, [{ path: '/?q' }], [{ path: '/?Q=1' }]],
    ['port', { port: 80 }, [{}], []],
    ['another port', { port: 81 }, [], [{}]],
    ['labels of the caller', { sourceLabels: [['app', 'web']] }, [{}], []],
    ['other labels', { sourceLabels: [['app', 'other']] }, [], [{}]],
    ['namespace of the caller', { sourceNamespace: 'callers' }, [{}], []],
    ['another namespace', { sourceNamespace: 'test' }, [], [{}]],
    [
      'all of it',
      {
        path: prefix('/a'),
        method: exact('GET'),
        headers: named('x-a', present),
        query: named('q', present),
      },
      [{ path: '/a?q=1', headers: { 'x-a': '1' } }],
      [{ path: '/a?q=1' }, { path: '/a', headers: { 'x-a': '1' } }],
    ],
  ])('%s', async (_name, fields, matching, others) => {
    await routes(route({ matches: [match(fields)], action: toV2 }), route());
    for (const asking of matching) {
      expect([asking, (await world.ask(asking)).headers['x-backend']]).toEqual([asking, 'v2']);
    }
    for (const asking of others) {
      expect([asking, (await world.ask(asking)).headers['x-backend']]).toEqual([asking, 'v1']);
    }
  });

  test('any of several matches, the first route that has one', async () => {
    await routes(
      route({
        matches: [match({ path: exact('/a') }), match({ path: exact('/b') })],
        action: toV2,
      }),
      route({ matches: [match({ path: prefix('/') })] }),
      route({ matches: [match({ path: exact('/c') })], action: toV2 }),
    );
    const backends = await Promise.all(
      ['/a', '/b', '/c'].map(async (path) => (await world.ask({ path })).headers['x-backend']),
    );
    expect(backends).toEqual(['v2', 'v2', 'v1']);
  });
});

test('a match that cannot be read closes what it may have meant, not the routes of other objects', async () => {
  const bad = { name: 'VirtualService/test/bad', unsure: true, action: forward(nowhere) };
  const other = { name: 'VirtualService/test/other', matches: [match({ path: prefix('/other') })] };
  await routes(route(bad), route({ ...other, action: toV2 }));
  expect((await world.ask({ path: '/other' })).status).toBe(200);
  expect((await world.ask({ path: '/else' })).status).toBe(500);
});

describe('headers', () => {
  const changes = (fields: object) => ({ ...noChanges, ...fields });

  test('are changed by destination and then by route: removed, set, added', async () => {
    await routes(
      route({
        request: changes({
          remove: ['x-gone'],
          set: [['x-both', 'route']],
          add: [['x-more', 'route']],
        }),
        response: changes({ set: [['x-both', 'route']], add: [['x-more', 'route']] }),
        action: forward(
          to('v1', {
            request: changes({
              set: [
                ['x-both', 'destination'],
                ['x-gone', 'destination'],
              ],
              add: [['x-more', 'destination']],
            }),
            response: changes({
              set: [['x-both', 'destination']],
              add: [['x-more', 'destination']],
            }),
          }),
        ),
      }),
    );
    const { headers } = await world.ask({ headers: { 'x-gone': 'client', 'x-more': 'client' } });
    const seen = v1.requests.at(-1)?.headers ?? {};
    expect(seen['x-gone']).toBeUndefined();
    expect([seen['x-both'], seen['x-more']]).toEqual(['route', 'client, destination, route']);
    expect([headers['x-both'], headers['x-more']]).toEqual(['route', 'destination, route']);
  });

  test('the authority is set as any other, framing is not touched', async () => {
    await routes(
      route({
        request: changes({
          remove: ['content-length', 'transfer-encoding'],
          set: [
            ['host', 'Inner.Example'],
            ['content-length', '1'],
            ['connection', 'close'],
          ],
        }),
      }),
    );
    const { body } = await world.ask({ method: 'POST', body: 'whole' });
    expect(body).toBe('v1 POST / whole');
    expect(v1.requests.at(-1)?.headers.host).toBe('inner.example');
  });

  test('values that are formats are written for each request and answer', async () => {
    const formats = (set: object, add: object = []) => changes({ formats: { set, add } });
    await routes(
      route({
        matches: [match({ path: exact('/own') })],
        response: formats([['x-code', '%RESPONSE_CODE%']]),
        action: { kind: 'respond', status: 202, body: '', contentType: 'text/plain' },
      }),
      route({
        request: formats(
          [
            ['x-was', '%REQ(:path)% by %PROTOCOL%'],
            ['x-kept', '%REQ(x-nowhere)%'],
            [':authority', '%REQ(x-go)%'],
          ],
          [['x-more', '%REQ(x-a)%']],
        ),
        response: formats([['x-echo', '%REQ(x-a)%:%RESP(x-version)%']]),
      }),
    );
    const sent = { 'x-a': '1', 'x-kept': 'client', 'x-more': '0', 'x-go': 'Inner.Example:80' };
    const answer = await world.ask({ path: '/a?b=c', headers: sent });
    expect(answer.headers['x-echo']).toMatch(/^1:/);
    expect(v1.requests.at(-1)?.headers).toMatchObject({
      'x-was': '/a?b=c by HTTP/1.1',
      'x-kept': 'client',
      'x-more': '0, 1',
      host: 'inner.example:80',
    });
    await world.ask({ headers: { 'x-go': 'no host' } });
    expect(v1.requests.at(-1)?.headers.host).toBe('shop.test');
    expect((await world.ask({ path: '/own' })).headers['x-code']).toBe('202');
  });

  test('of answers of the proxy itself too', async () => {
    const response = changes({ set: [['x-answer', 'route']] });
    await routes(
      route({
        matches: [match({ path: exact('/r') })],
        response,
        action: { kind: 'redirect', redirect: { status: 302, scheme: 'https' } },
      }),
      route({
        matches: [match({ path: exact('/d') })],
        response,
        action: { kind: 'respond', status: 200, body: 'x', contentType: 'text/plain' },
      }),
      route({ matches: [match({ path: exact('/m') })], response, action: forward(nowhere) }),
    );
    for (const path of ['/r', '/d', '/m']) {
      expect([path, (await world.ask({ path })).headers['x-answer']]).toEqual([path, 'route']);
    }
  });
});

test('the body of a direct response arrives byte by byte', async () => {
  const body = Buffer.from('fffe0080', 'hex');
  const action = { kind: 'respond', status: 200, contentType: 'text/plain' };
  await routes(route({ action: { ...action, body: body.toString('base64'), encoding: 'base64' } }));
  const { headers, bytes } = await world.ask();
  expect([bytes.toString('hex'), headers['content-length']]).toEqual(['fffe0080', '4']);
});

describe('a redirect leads to', () => {
  test.each<readonly [string, object, string]>([
    ['another scheme', { scheme: 'https' }, 'https://shop.test/a/b?q=1'],
    ['another authority', { authority: 'x.example' }, 'http://x.example/a/b?q=1'],
    ['another port', { port: 8443, scheme: 'https' }, 'https://shop.test:8443/a/b?q=1'],
    ['the port of the scheme', { scheme: 'https', port: 443 }, 'https://shop.test/a/b?q=1'],
    [
      'the port that was asked for',
      { authority: 'x.example', derivePort: 'from-request' },
      'http://x.example/a/b?q=1',
    ],
    [
      'the port of the protocol',
      { scheme: 'https', derivePort: 'from-protocol' },
      'https://shop.test/a/b?q=1',
    ],
    ['another path', { path: { kind: 'full', value: '/z' } }, 'http://shop.test/z?q=1'],
    [
      'another prefix',
      { path: { kind: 'prefix', matched: '/a', value: '/z' } },
      'http://shop.test/z/b?q=1',
    ],
  ])('%s', async (_name, redirect, location) => {
    await routes(route({ action: { kind: 'redirect', redirect: { status: 308, ...redirect } } }));
    const answer = await world.ask({ path: '/a/b?q=1' });
    expect([answer.status, answer.headers.location]).toEqual([308, location]);
  });
});

describe('a rewrite', () => {
  test.each<readonly [string, object, string, string]>([
    [
      'a prefix',
      { path: { kind: 'prefix', matched: '/a', value: '/z' } },
      '/a/b?q=/a',
      '/z/b?q=/a',
    ],
    ['a prefix by the root', { path: { kind: 'prefix', matched: '/a', value: '/' } }, '/a/b', '/b'],
    ['a prefix that is all', { path: { kind: 'prefix', matched: '/a', value: '/' } }, '/a', '/'],
    ['of no prefix', { path: { kind: 'prefix', matched: '/', value: '/' } }, '/a/b', '/a/b'],
    ['the whole path', { path: { kind: 'full', value: '/z' } }, '/a/b?q=1', '/z?q=1'],
    [
      'by regex, with groups',
      { path: { kind: 'regex', match: '^/(\\w+)/(\\w+)', rewrite: '/\\2/\\1' } },
      '/a/b/c?q=1',
      '/b/a/c?q=1',
    ],
    [
      'by regex, dollars as they are',
      { path: { kind: 'regex', match: 'a', rewrite: '$1' } },
      '/a',
      '/$1',
    ],
  ])('%s', async (_name, rewrite, path, expected) => {
    await routes(route({ action: { ...forward(to('v1')), rewrite } }));
    expect((await world.ask({ path })).body).toBe(`v1 GET ${expected} `);
  });
});

describe('faults', () => {
  test('by their percentage', async () => {
    await routes(route({ fault: { abort: { percentage: 30, status: 418 } } }));
    const answers = await Promise.all(Array.from({ length: 90 }, () => world.ask()));
    const aborted = answers.filter(({ status }) => status === 418).length;
    expect(aborted).toBeGreaterThan(8);
    expect(aborted).toBeLessThan(60);
    await routes(route({ fault: { abort: { percentage: 0, status: 418 } } }));
    expect((await world.ask()).status).toBe(200);
  });

  test('a delay, and what follows it', async () => {
    await routes(
      route({
        fault: { delay: { percentage: 100, ms: 120 }, abort: { percentage: 100, status: 503 } },
      }),
    );
    const started = performance.now();
    expect(await world.ask()).toMatchObject({ status: 503, body: 'fault filter abort' });
    expect(performance.now() - started).toBeGreaterThan(110);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(world.access.at(-1)).toContain(' 503 DI,FI ');
  });

  test('a client that leaves during a delay is not forwarded', async () => {
    await routes(route({ fault: { delay: { percentage: 100, ms: 150 } } }));
    const before = v1.requests.length;
    await expect(world.ask({ abortAfterMs: 30 })).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(v1.requests.length).toBe(before);
  });
});

describe('a timeout', () => {
  test('begins with the end of the request', async () => {
    await routes(route({ timeoutMs: 200 }));
    const slow = await world.ask({ method: 'POST', body: 'a', bodyAfterMs: 400 });
    expect(slow).toMatchObject({ status: 200, body: 'v1 POST / a' });
  });
});

describe('mirrors', () => {
  const mirror = { target: { kind: 'service', service: shopKey, port: 80, subset: 'v2' } };

  test('get a copy, body and all, and nobody waits for them', async () => {
    await routes(route({ mirrors: [{ ...mirror, percentage: 100 }] }));
    const before = v2.requests.length;
    expect(await world.ask({ method: 'POST', path: '/m', body: 'copied' })).toMatchObject({
      body: 'v1 POST /m copied',
    });
    while (v2.requests.length === before) await new Promise((resolve) => setTimeout(resolve, 5));
    const copy = v2.requests.at(-1);
    expect([copy?.method, copy?.url, copy?.headers.host]).toEqual([
      'POST',
      '/m',
      'shop.test-shadow',
    ]);
    expect(copy?.headers['content-length']).toBe('6');
  });

  test('get no body of more than 64 KiB, and what they did not get is counted', async () => {
    await routes(route({ mirrors: [{ ...mirror, percentage: 100 }] }));
    const before = v2.requests.length;
    const skipped = async (): Promise<string[]> =>
      (await world.metrics.render())
        .split('\n')
        .filter((line) => line.startsWith('ambit_mirror_skipped_total{'));
    expect(await skipped()).toEqual([]);
    const body = 'x'.repeat(64 * 1024 + 1);
    expect(await world.ask({ method: 'POST', path: '/long', body })).toMatchObject({ status: 200 });
    expect(await skipped()).toEqual([
      expect.stringMatching(/cluster="[^"]*v2[^"]*shop[^"]*"\} 1$/),
    ]);
    const whole = body.slice(1);
    await world.ask({ method: 'POST', path: '/whole', body: whole });
    while (v2.requests.length === before) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(v2.requests.slice(before).map(({ url }) => url)).toEqual(['/whole']);
    expect(await skipped()).toEqual([expect.stringMatching(/ 1$/)]);
  });

  test('by their percentage, several of them, and one that is not there', async () => {
    const missing = { target: { kind: 'missing', why: 'nobody' }, percentage: 100 };
    await routes(
      route({ mirrors: [{ ...mirror, percentage: 50 }, { ...mirror, percentage: 0 }, missing] }),
    );
    const before = v2.requests.length;
    for (let index = 0; index < 40; index += 1) await world.ask();
    await new Promise((resolve) => setTimeout(resolve, 100));
    const copies = v2.requests.length - before;
    expect(copies).toBeGreaterThan(5);
    expect(copies).toBeLessThan(35);
  });
});

describe('CORS', () => {
  const cors = {
    allowOrigins: [exact('https://a.example'), regex('https://.*\\.b\\.example')],
    allowMethods: ['GET', 'PUT'],
    allowHeaders: ['x-a'],
    exposeHeaders: ['x-b'],
    maxAgeSeconds: 60,
    allowCredentials: true,
    forwardUnmatchedPreflights: true,
  };
  const preflight = (origin: string): Asking => ({
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'PUT' },
  });

  test('a preflight of an allowed origin is answered here', async () => {
    await routes(route({ cors }));
    const before = v1.requests.length;
    const answer = await world.ask(preflight('https://x.b.example'));
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'access-control-allow-origin': 'https://x.b.example',
      'access-control-allow-methods': 'GET,PUT',
      'access-control-allow-headers': 'x-a',
      'access-control-max-age': '60',
      'access-control-allow-credentials': 'true',
    });
    expect(v1.requests.length).toBe(before);
  });

  test('one of another origin goes on, or is answered without leave', async () => {
    await routes(route({ cors }));
    const forwarded = await world.ask(preflight('https://c.example'));
    expect(forwarded.headers['x-backend']).toBe('v1');
    await routes(route({ cors: { ...cors, forwardUnmatchedPreflights: false } }));
    const answered = await world.ask(preflight('https://c.example'));
    expect([answered.status, answered.headers['access-control-allow-origin']]).toEqual([
      200,
      undefined,
    ]);
    expect(answered.headers['x-backend']).toBeUndefined();
  });

  test('answers name the origin, also those of the proxy', async () => {
    await routes(route({ cors }), route());
    const origin = 'https://a.example';
    expect((await world.ask({ headers: { origin } })).headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-expose-headers': 'x-b',
    });
    await routes(route({ cors, action: forward(nowhere) }));
    const refused = await world.ask({ headers: { origin } });
    expect([refused.status, refused.headers['access-control-allow-origin']]).toEqual([500, origin]);
    expect((await world.ask({})).headers['access-control-allow-origin']).toBeUndefined();
  });
});

test('answers of the proxy itself are changed by the destination that was chosen, too', async () => {
  const changes = (name: string) => ({ ...noChanges, set: [[name, '1']] });
  const response = changes('x-of-route');
  const target = { kind: 'service', service: shopKey, port: 80, subset: 'nobody' };
  const missing = forward({ ...nowhere, response: changes('x-of-target') });
  const empty = forward({ ...nowhere, target, response: changes('x-of-target') });
  const fault = { abort: { percentage: 100, status: 418 } };
  const statuses: number[] = [];
  for (const one of [{ action: missing }, { action: empty }, { action: empty, fault }]) {
    await routes(route({ response, ...one }));
    const answer = await world.ask();
    statuses.push(answer.status);
    expect(answer.headers).toMatchObject({ 'x-of-route': '1', 'x-of-target': '1' });
  }
  expect(statuses).toEqual([500, 503, 418]);
  const cluster = {
    ...subsets,
    subsets: [{ ...subsets.subsets[0], labels: [['version', 'none']] }],
  };
  await routes(
    route({ response, action: forward(to('v1', { response: changes('x-of-target') })) }),
  );
  await world.tell({ clusters: [cluster] });
  const unhealthy = await world.ask();
  await world.tell({ clusters: [subsets] });
  expect(unhealthy.status).toBe(503);
  expect(unhealthy.headers).toMatchObject({ 'x-of-route': '1', 'x-of-target': '1' });
});
