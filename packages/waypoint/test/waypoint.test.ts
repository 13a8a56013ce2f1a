import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { defaultTraffic, noChanges } from '@ambit/api';
import type { Answer, Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

let world: WaypointWorld;
let v1: Backend;
let v2: Backend;

beforeAll(async () => {
  v1 = await startBackend('v1');
  v2 = await startBackend('v2');
  world = await startWorld({
    services: [shopService()],
    workloads: [endpointOf(v1, { version: 'v1' }), endpointOf(v2, { version: 'v2' })],
    clusters: [subsets],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await v1.close();
  await v2.close();
});

/** At most 50 at once: a session takes 100 streams. */
async function many(
  count: number,
  asking: Parameters<WaypointWorld['ask']>[0] = {},
): Promise<Answer[]> {
  const answers: Answer[] = [];
  while (answers.length < count) {
    const some = Math.min(50, count - answers.length);
    answers.push(...(await Promise.all(Array.from({ length: some }, () => world.ask(asking)))));
  }
  return answers;
}

const subsets = {
  service: shopKey,
  policy: defaultTraffic,
  subsets: ['v1', 'v2'].map((name) => ({
    name,
    labels: [['version', name]],
    policy: defaultTraffic,
  })),
};

function to(subset: string, weight = 100): Record<string, unknown> {
  return {
    weight,
    target: { kind: 'service', service: shopKey, port: 80, subset },
    request: noChanges,
    response: noChanges,
  };
}

function match(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    ignorePathCase: false,
    headers: [],
    withoutHeaders: [],
    query: [],
    sourceLabels: [],
    ...fields,
  };
}

function route(fields: Record<string, unknown>): Record<string, unknown> {
  return {
    name: 'VirtualService/test/shop',
    matches: [],
    action: { kind: 'forward', targets: [to('v1')], rewrite: {} },
    request: noChanges,
    response: noChanges,
    fault: {},
    mirrors: [],
    ...fields,
  };
}

async function routes(...http: Record<string, unknown>[]): Promise<void> {
  await world.tell({ routes: [{ service: shopKey, http }] });
}

function forward(...targets: Record<string, unknown>[]): Record<string, unknown> {
  return { kind: 'forward', targets, rewrite: {} };
}

describe('without routes', () => {
  test('requests are spread over the endpoints, one connection of the client or not', async () => {
    await routes();
    const answers = await many(40);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(new Set(answers.map(({ headers }) => headers['x-backend']))).toEqual(
      new Set(['v1', 'v2']),
    );
  });

  test('a body goes there and back', async () => {
    const body = 'x'.repeat(300_000);
    const { status, body: echoed } = await world.ask({ method: 'POST', path: '/a?b=c', body });
    expect(status).toBe(200);
    expect(echoed.slice(2)).toBe(` POST /a?b=c ${body}`);
  });

  test('the endpoint is told of the client by the waypoint alone', async () => {
    await world.ask({
      headers: {
        'x-forwarded-client-cert': 'URI=spiffe://cluster.local/ns/x/sa/forged',
        'x-envoy-foo': '1',
      },
    });
    const seen = [v1, v2].flatMap(({ requests }) => requests).map((one) => one.headers);
    for (const one of seen) expect(one['x-envoy-foo']).toBeUndefined();
    const headers = seen.at(-1) ?? {};
    expect(headers['x-forwarded-client-cert']).toBe(
      'By=spiffe://cluster.local/ns/test/sa/waypoint;URI=spiffe://cluster.local/ns/test/sa/client',
    );
    expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('routes', () => {
  test('by weight', async () => {
    await routes(route({ action: forward(to('v1', 80), to('v2', 20)) }));
    const answers = await many(300);
    const share = answers.filter(({ headers }) => headers['x-backend'] === 'v2').length / 300;
    expect(share).toBeGreaterThan(0.1);
    expect(share).toBeLessThan(0.3);
  });

  test('by header, path, query and method, first match first', async () => {
    await routes(
      route({
        name: 'a',
        matches: [
          match({ headers: [{ name: 'x-user', match: { kind: 'exact', value: 'tester' } }] }),
        ],
        action: forward(to('v2')),
      }),
      route({
        name: 'b',
        matches: [
          match({ path: { kind: 'prefix', value: '/two' } }),
          match({ query: [{ name: 'v', match: { kind: 'regex', value: '[2-3]' } }] }),
          match({ method: { kind: 'exact', value: 'PUT' } }),
        ],
        action: forward(to('v2')),
      }),
      route({ name: 'c' }),
    );
    const backendOf = async (asking: Parameters<typeof world.ask>[0]) =>
      (await world.ask(asking)).headers['x-backend'];
    expect(await backendOf({})).toBe('v1');
    expect(await backendOf({ headers: { 'x-user': 'tester' } })).toBe('v2');
    expect(await backendOf({ headers: { 'x-user': 'other' } })).toBe('v1');
    expect(await backendOf({ path: '/two/a' })).toBe('v2');
    expect(await backendOf({ path: '/?v=2' })).toBe('v2');
    expect(await backendOf({ path: '/?v=23' })).toBe('v1');
    expect(await backendOf({ method: 'PUT' })).toBe('v2');
  });

  test('none matches: 404; a missing backend: 500; no weight: 500; an unknown subset: 503', async () => {
    await routes(
      route({
        matches: [match({ path: { kind: 'exact', value: '/missing' } })],
        action: forward({ ...to('v1'), target: { kind: 'missing', why: 'no such service' } }),
      }),
      route({
        matches: [match({ path: { kind: 'exact', value: '/zero' } })],
        action: forward(to('v1', 0), to('v2', 0)),
      }),
      route({
        matches: [match({ path: { kind: 'exact', value: '/subset' } })],
        action: forward(to('v9')),
      }),
    );
    expect((await world.ask({ path: '/other' })).status).toBe(404);
    expect((await world.ask({ path: '/missing' })).status).toBe(500);
    expect((await world.ask({ path: '/zero' })).status).toBe(500);
    expect((await world.ask({ path: '/subset' })).status).toBe(503);
  });

  test('rewrite, headers, redirect, direct answer, fault', async () => {
    await routes(
      route({
        matches: [match({ path: { kind: 'prefix', value: '/old' } })],
        action: {
          kind: 'forward',
          targets: [to('v1')],
          rewrite: { path: { kind: 'prefix', matched: '/old', value: '/new' }, authority: 'inner' },
        },
        request: { remove: ['x-gone'], set: [['x-set', '1']], add: [['x-add', '2']] },
        response: { remove: ['x-backend'], set: [['x-answer', '3']], add: [] },
      }),
      route({
        matches: [match({ path: { kind: 'exact', value: '/away' } })],
        action: { kind: 'redirect', redirect: { authority: 'elsewhere', status: 301 } },
      }),
      route({
        matches: [match({ path: { kind: 'exact', value: '/teapot' } })],
        action: {
          kind: 'respond',
          status: 418,
          body: 'short and stout',
          contentType: 'text/plain',
        },
      }),
      route({
        matches: [match({ path: { kind: 'exact', value: '/broken' } })],
        fault: { abort: { percentage: 100, status: 555 } },
      }),
    );
    const rewritten = await world.ask({ path: '/old/a?q=1', headers: { 'x-gone': 'x' } });
    expect(rewritten.body).toBe('v1 GET /new/a?q=1 ');
    expect(rewritten.headers).toMatchObject({ 'x-answer': '3' });
    expect(rewritten.headers['x-backend']).toBeUndefined();
    const seen = v1.requests.at(-1)?.headers;
    expect(seen).toMatchObject({ host: 'inner', 'x-set': '1', 'x-add': '2' });
    expect(seen?.['x-gone']).toBeUndefined();
    const away = await world.ask({ path: '/away' });
    expect([away.status, away.headers.location]).toEqual([301, 'http://elsewhere/away']);
    expect(await world.ask({ path: '/teapot' })).toMatchObject({
      status: 418,
      body: 'short and stout',
    });
    expect((await world.ask({ path: '/broken' })).status).toBe(555);
  });
});

describe('resilience', () => {
  async function cluster(fields: Record<string, unknown>): Promise<void> {
    await world.tell({
      clusters: [
        {
          ...subsets,
          policy: { ...defaultTraffic, ...fields },
          subsets: subsets.subsets.map((one) => ({
            ...one,
            policy: { ...defaultTraffic, ...fields },
          })),
        },
      ],
    });
  }

  test('a failing version is tried again elsewhere, and the caller sees none of it', async () => {
    const failing = await startBackend('failing', (_request, response) => {
      response.statusCode = 503;
      response.end('no');
    });
    try {
      await world.tell({ workloads: [endpointOf(failing, { version: 'v1' })] });
      await routes(
        route({
          action: forward({ ...to('v1'), target: { kind: 'service', service: shopKey, port: 80 } }),
          retry: {
            attempts: 4,
            on: ['5xx'],
            statuses: [],
            backoffMs: 1,
            maxBackoffMs: 5,
            remoteLocalities: true,
            ignorePreviousHosts: true,
            evenIfNotIdempotent: false,
          },
        }),
      );
      const answers = await many(60);
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      expect(failing.requests.length).toBeGreaterThan(0);
      const posted = await many(30, { method: 'POST', body: 'once' });
      expect(posted.some(({ status }) => status === 503)).toBe(true);
      expect(posted.filter(({ status }) => status === 503).length).toBe(
        failing.requests.filter(({ method }) => method === 'POST').length,
      );
    } finally {
      await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/failing' }]);
      await failing.close();
    }
  });

  test('a slow answer is given up: 504 with flag UT', async () => {
    const slow = await startBackend('slow', (_request, response) => {
      setTimeout(() => response.end('late'), 500);
    });
    try {
      await world.tell({ workloads: [endpointOf(slow, { version: 'v2' })] });
      await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/v2' }]);
      await routes(route({ action: forward(to('v2')), timeoutMs: 50 }));
      const started = performance.now();
      expect((await world.ask()).status).toBe(504);
      expect(performance.now() - started).toBeLessThan(400);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(world.access.at(-1)).toContain(' 504 UT ');
    } finally {
      await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/slow' }]);
      await world.tell({ workloads: [endpointOf(v2, { version: 'v2' })] });
      await slow.close();
    }
  });

  test('the circuit breaks: what is beyond the limits is refused at once with flag UO', async () => {
    const slow = await startBackend('slow2', (_request, response) => {
      setTimeout(() => response.end('done'), 100);
    });
    try {
      await world.tell({ workloads: [endpointOf(slow, { version: 'v3' })] });
      await world.tell({
        clusters: [
          {
            ...subsets,
            subsets: [
              {
                name: 'v3',
                labels: [['version', 'v3']],
                policy: {
                  ...defaultTraffic,
                  pool: { ...defaultTraffic.pool, maxConnections: 1, maxPendingRequests: 1 },
                },
              },
            ],
          },
        ],
      });
      await routes(
        route({
          action: forward(to('v3')),
          retry: {
            attempts: 0,
            on: [],
            statuses: [],
            backoffMs: 1,
            maxBackoffMs: 1,
            remoteLocalities: true,
            ignorePreviousHosts: true,
            evenIfNotIdempotent: false,
          },
        }),
      );
      const answers = await many(6);
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 503, 503, 503, 503]);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(world.access.filter((line) => line.includes(' 503 UO ')).length).toBe(4);
    } finally {
      await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/slow2' }]);
      await slow.close();
    }
  });

  test('an endpoint that fails again and again is left out for a while', async () => {
    const failing = await startBackend('ejected', (_request, response) => {
      response.statusCode = 500;
      response.end();
    });
    try {
      await world.tell({ workloads: [endpointOf(failing)] });
      await cluster({
        outlier: {
          consecutive5xx: 3,
          consecutiveGatewayErrors: 0,
          consecutiveLocalOrigin: 0,
          splitExternalLocalOrigin: false,
          intervalMs: 10_000,
          baseEjectionMs: 30_000,
          maxEjectionPercent: 50,
          minHealthPercent: 0,
        },
      });
      await routes();
      for (let index = 0; index < 60; index += 1) await world.ask();
      expect(failing.requests.length).toBe(3);
    } finally {
      await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/ejected' }]);
      await failing.close();
      await cluster({});
    }
  });

  test('TLS that is asked for and cannot be made: 503, never plain text', async () => {
    const before = v1.requests.length + v2.requests.length;
    await cluster({ tls: { mode: 'broken', why: 'it cannot be made' } });
    await routes();
    expect((await world.ask()).status).toBe(503);
    expect(v1.requests.length + v2.requests.length).toBe(before);
    await cluster({});
  });

  test('no endpoint: 503 with flag UH', async () => {
    await world.tell({
      services: [shopService()],
      clusters: [
        {
          ...subsets,
          subsets: [{ name: 'none', labels: [['version', 'none']], policy: defaultTraffic }],
        },
      ],
    });
    await routes(route({ action: forward(to('none')) }));
    expect((await world.ask()).status).toBe(503);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(world.access.at(-1)).toContain(' 503 UH no_healthy_upstream ');
    await cluster({});
    await routes();
  });
});

describe('policy', () => {
  const target = { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] };

  test('a method is refused by name of the policy, the rest is served', async () => {
    await world.tell({
      policies: [
        {
          name: 'no-delete',
          scope: target,
          rules: [
            {
              from: [],
              to: [
                [
                  {
                    kind: 'request',
                    attribute: { kind: 'method' },
                    values: [{ kind: 'exact', value: 'DELETE' }],
                    notValues: [],
                  },
                ],
              ],
              when: [],
            },
          ],
        },
      ],
    });
    expect((await world.ask({ method: 'DELETE' })).status).toBe(403);
    expect((await world.ask({})).status).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(
      world.access.some((line) =>
        line.includes('rbac_access_denied_matched_policy[test/no-delete]'),
      ),
    ).toBe(true);
    await world.controller.push([], [{ type: 'policy', name: 'test/no-delete' }]);
  });

  test('the path that is judged is the path that is forwarded', async () => {
    await world.tell({
      policies: [
        {
          name: 'no-admin',
          scope: target,
          rules: [
            {
              from: [],
              to: [
                [
                  {
                    kind: 'request',
                    attribute: { kind: 'path' },
                    values: [{ kind: 'prefix', value: '/admin' }],
                    notValues: [],
                  },
                ],
              ],
              when: [],
            },
          ],
        },
      ],
    });
    for (const path of [
      '/admin',
      '/%61dmin',
      '//admin',
      '/./admin',
      '/x/../admin',
      '/x/..%2fadmin',
      '/x/%2e%2e/admin',
      '\\admin',
      '/%5Cadmin',
    ].map((one) => (one.startsWith('/') ? one : `/${one}`))) {
      expect([path, (await world.ask({ path })).status]).toEqual([path, 403]);
    }
    for (const path of ['/a%00b', '/a%c0%afadmin', '/a%zz', '/a%252fb']) {
      expect([path, (await world.ask({ path })).status]).toEqual([path, 400]);
    }
    expect((await world.ask({ path: '/administrator%20x/./y' })).status).toBe(403);
    expect((await world.ask({ path: '/a%20b/../c' })).body).toMatch(/ GET \/c $/);
    await world.controller.push([], [{ type: 'policy', name: 'test/no-admin' }]);
  });

  test('by the caller', async () => {
    await world.tell({
      policies: [
        {
          name: 'only-friends',
          action: 'ALLOW',
          scope: target,
          rules: [
            {
              from: [
                [
                  {
                    kind: 'connection',
                    attribute: 'source.principal',
                    values: [{ kind: 'exact', value: 'cluster.local/ns/test/sa/friend' }],
                    notValues: [],
                  },
                ],
              ],
              to: [],
              when: [],
            },
          ],
        },
      ],
    });
    expect((await world.ask({ as: 'friend' })).status).toBe(200);
    expect((await world.ask({ as: 'client' })).status).toBe(403);
    await world.controller.push([], [{ type: 'policy', name: 'test/only-friends' }]);
  });
});

test("metrics with Istio's labels", async () => {
  const text = await world.metrics.render();
  const line = text
    .split('\n')
    .find(
      (one) =>
        one.startsWith('istio_requests_total{') &&
        one.includes('response_code="200"') &&
        one.includes('destination_workload="v1"'),
    );
  for (const label of [
    'reporter="waypoint"',
    'source_principal="spiffe://cluster.local/ns/test/sa/client"',
    'destination_service_name="shop"',
    'connection_security_policy="mutual_tls"',
    'response_flags="-"',
  ]) {
    expect(line).toContain(label);
  }
  expect(text).toContain('istio_request_duration_milliseconds_bucket{');
});
