import type { RequestListener } from 'node:http';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { defaultTraffic, noChanges, parseIp, parsePort } from '@ambit/api';
import { duplexOf } from '@ambit/core';
import type { Answer, Asking, Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld, vip } from './world.ts';

let world: WaypointWorld;
const backends: Backend[] = [];

beforeAll(async () => {
  world = await startWorld({ services: [shopService()] });
}, 30_000);

afterEach(async () => {
  const names = backends.map(({ name }) => name);
  await world.controller.push(
    [],
    names.map((name) => ({ type: 'workload', name: `Kubernetes//Pod/test/${name}` })),
  );
  for (const backend of backends.splice(0)) await backend.close();
  await tell({ settings: {} });
});

afterAll(() => world.close());

async function backend(
  name: string,
  answer?: RequestListener,
  fields: Record<string, unknown> = {},
): Promise<Backend> {
  const made = await startBackend(name, answer);
  backends.push(made);
  await world.tell({ workloads: [endpointOf(made, {}, fields)] });
  return made;
}

const status =
  (code: number, headers: Record<string, string> = {}): RequestListener =>
  (request, response) => {
    request.resume();
    response.writeHead(code, headers);
    response.end(String(code));
  };

describe('weights of endpoints', () => {
  test('are their shares, and a changed one holds at once', async () => {
    const weighted = async (made: Backend, weight: number): Promise<void> => {
      const ports = [{ servicePort: 80, targetPort: made.port }];
      const services = [{ service: shopKey, ready: true, weight, ports }];
      await world.tell({ workloads: [endpointOf(made, {}, { services })] });
    };
    const [a, b] = [await backend('a'), await backend('b')];
    await weighted(a, 3);
    await tell({ settings: { balancing: { kind: 'round-robin' } } });
    const counts = async (): Promise<unknown[]> => {
      const answers = await inTurn(40);
      return ['a', 'b'].map(
        (name) => answers.filter(({ headers }) => headers['x-backend'] === name).length,
      );
    };
    expect(await counts()).toEqual([30, 10]);
    await weighted(b, 3);
    expect(await counts()).toEqual([20, 20]);
  });
});

interface Told {
  readonly settings?: Record<string, unknown>;
  readonly healthCheck?: Record<string, unknown>;
  readonly route?: Record<string, unknown>;
}

async function tell({ settings = {}, healthCheck, route }: Told): Promise<void> {
  const target = { kind: 'service', service: shopKey, port: 80 };
  await world.tell({
    clusters: [
      {
        service: shopKey,
        policy: { ...defaultTraffic, ...settings },
        subsets: [],
        ...(healthCheck === undefined ? {} : { healthCheck }),
      },
    ],
    routes: [
      {
        service: shopKey,
        http:
          route === undefined
            ? []
            : [
                {
                  name: 'VirtualService/test/shop',
                  matches: [],
                  action: {
                    kind: 'forward',
                    targets: [{ weight: 100, target, request: noChanges, response: noChanges }],
                    rewrite: {},
                  },
                  request: noChanges,
                  response: noChanges,
                  fault: {},
                  mirrors: [],
                  ...route,
                },
              ],
      },
    ],
  });
}

function retry(fields: Record<string, unknown>): Record<string, unknown> {
  return {
    attempts: 2,
    on: [],
    statuses: [],
    backoffMs: 1,
    maxBackoffMs: 5,
    remoteLocalities: false,
    ignorePreviousHosts: true,
    evenIfNotIdempotent: false,
    ...fields,
  };
}

const outlier = {
  consecutive5xx: 2,
  consecutiveGatewayErrors: 0,
  consecutiveLocalOrigin: 0,
  splitExternalLocalOrigin: false,
  intervalMs: 10_000,
  baseEjectionMs: 60_000,
  maxEjectionPercent: 100,
  minHealthPercent: 0,
};

async function inTurn(count: number, asking: Asking = {}): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (let index = 0; index < count; index += 1) answers.push(await world.ask(asking));
  return answers;
}

function names(answers: readonly Answer[]): Set<unknown> {
  return new Set(answers.map(({ headers }) => headers['x-backend']));
}

async function metric(start: string, ...labels: string[]): Promise<number> {
  const text = await world.metrics.render();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${start}{`) && labels.every((one) => line.includes(one)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come to be in five seconds');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Opens a tunnel and says something: true when it comes back. */
async function echoes(): Promise<boolean> {
  const ip = parseIp(vip);
  const port = parsePort(80);
  if (!ip.ok || !port.ok) throw new TypeError('no address');
  const { stream } = await (
    await world.session()
  ).openTunnel({
    authority: { kind: 'address', ip: ip.value, port: port.value },
    headers: [],
    timeoutMs: 15_000,
  });
  const duplex = duplexOf(stream);
  return new Promise((resolve) => {
    duplex.on('error', () => resolve(false));
    duplex.on('close', () => resolve(false));
    duplex.once('data', () => {
      resolve(true);
      duplex.destroy();
    });
    duplex.write('hello');
  });
}

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));

describe('consistent hashing', () => {
  const ring = (key: Record<string, unknown>) => ({
    settings: { balancing: { kind: 'ring-hash', key, minimumRingSize: 1024 } },
  });

  test('one value, one endpoint; and a new endpoint takes only its share', async () => {
    for (const name of ['a', 'b', 'c']) await backend(name);
    await tell(ring({ kind: 'header', name: 'x-user' }));
    const ownerOf = async (user: number): Promise<unknown> =>
      (await world.ask({ headers: { 'x-user': `user-${user}` } })).headers['x-backend'];
    const before = await Promise.all(Array.from({ length: 60 }, (_, user) => ownerOf(user)));
    expect(new Set(before).size).toBe(3);
    const again = await Promise.all(Array.from({ length: 60 }, (_, user) => ownerOf(user)));
    expect(again).toEqual(before);
    await backend('d');
    const after = await Promise.all(Array.from({ length: 60 }, (_, user) => ownerOf(user)));
    const moved = after.filter((name, user) => name !== before[user]);
    expect(moved.length).toBeLessThan(30);
    expect(new Set(moved)).toEqual(new Set(['d']));
  });

  test('a cookie is made for who has none, and brings him back', async () => {
    for (const name of ['a', 'b', 'c']) await backend(name);
    await tell(
      ring({
        kind: 'cookie',
        name: 'who',
        path: '/shop',
        ttlSeconds: 60,
        attributes: [
          ['SameSite', 'Strict'],
          ['Secure', ''],
        ],
      }),
    );
    for (let client = 0; client < 5; client += 1) {
      const first = await world.ask();
      const [cookie = ''] = first.headers['set-cookie'] ?? [];
      expect(cookie).toMatch(
        /^who=[0-9a-f-]{36}; Path=\/shop; Max-Age=60; SameSite=Strict; Secure; HttpOnly$/,
      );
      const sent = { headers: { cookie: `x=y; ${cookie.split(';')[0] ?? ''}` } };
      const next = await inTurn(6, sent);
      expect(names(next)).toEqual(new Set([first.headers['x-backend']]));
      expect(next[0]?.headers['set-cookie']).toBeUndefined();
    }
  });

  test('maglev, by query and by source address', async () => {
    for (const name of ['a', 'b', 'c']) await backend(name);
    const maglev = (key: Record<string, unknown>) =>
      tell({ settings: { balancing: { kind: 'maglev', key, tableSize: 997 } } });
    await maglev({ kind: 'query', name: 'user' });
    expect(names(await inTurn(10, { path: '/?user=1' })).size).toBe(1);
    const others = await Promise.all(
      Array.from({ length: 30 }, (_, user) => world.ask({ path: `/?user=${user}` })),
    );
    expect(names(others).size).toBe(3);
    await maglev({ kind: 'source-ip' });
    expect(names(await inTurn(20)).size).toBe(1);
  });
});

describe('localities', () => {
  const at = (region: string, zone: string) => ({ locality: { region, zone, subzone: '' } });

  async function three(nearAnswer?: RequestListener): Promise<void> {
    await world.tell({ workloads: [{ name: 'waypoint-1', ...at('eu', '1') }] });
    await backend('near', nearAnswer, at('eu', '1'));
    await backend('next', undefined, at('eu', '2'));
    await backend('far', undefined, at('us', '1'));
  }

  test('without outlier detection all are used, with it the nearest', async () => {
    await three();
    await tell({});
    expect(names(await inTurn(40)).size).toBe(3);
    await tell({ settings: { outlier } });
    expect(names(await inTurn(20))).toEqual(new Set(['near']));
  });

  test('the next one follows when the nearest fails, and failing requests are few', async () => {
    await three(status(500));
    await tell({ settings: { outlier }, route: { retry: retry({ attempts: 0 }) } });
    const answers = await inTurn(20);
    expect(answers.filter((one) => one.status === 500).length).toBe(2);
    expect(names(answers.slice(2))).toEqual(new Set(['next']));
  });

  test('shares by distribute', async () => {
    await three();
    await tell({
      settings: {
        locality: {
          ...defaultTraffic.locality,
          distribute: [
            {
              from: 'eu/*',
              to: [
                ['us/*', 80],
                ['eu/2/*', 20],
              ],
            },
          ],
        },
      },
    });
    const answers = await inTurn(200);
    expect(names(answers)).toEqual(new Set(['next', 'far']));
    const far = answers.filter(({ headers }) => headers['x-backend'] === 'far').length;
    expect(far).toBeGreaterThan(130);
    expect(far).toBeLessThan(190);
  });

  test("the Service's traffic distribution holds", async () => {
    await three();
    const scopes = ['network', 'region', 'zone'];
    await world.tell({ services: [shopService({ loadBalancing: { mode: 'failover', scopes } })] });
    await tell({});
    expect(names(await inTurn(20))).toEqual(new Set(['near']));
    await world.tell({ services: [shopService()] });
  });

  test('repeats leave the locality only when told so', async () => {
    await three(status(503));
    const second = await backend('near2', status(503), at('eu', '1'));
    const settings = { outlier: { ...outlier, consecutive5xx: 1000 } };
    const on = ['5xx'];
    await tell({ settings, route: { retry: retry({ on, attempts: 1 }) } });
    expect((await world.ask()).status).toBe(503);
    expect(second.requests.length).toBe(1);
    await tell({ settings, route: { retry: retry({ on, attempts: 1, remoteLocalities: true }) } });
    expect(names(await inTurn(5))).toEqual(new Set(['next']));
  });
});

describe('outliers', () => {
  test('an endpoint that was taken out comes back when its time is over', async () => {
    let broken = true;
    const name = 'recovering';
    const recovering = await backend(name, (request, response) => {
      request.resume();
      response.writeHead(broken ? 500 : 200, { 'x-backend': name });
      response.end();
    });
    await backend('good');
    await tell({
      settings: { outlier: { ...outlier, baseEjectionMs: 300 } },
      route: { retry: retry({ attempts: 0 }) },
    });
    await until(async () => {
      await world.ask();
      return recovering.requests.length >= 2;
    });
    await inTurn(10);
    expect(recovering.requests.length).toBe(2);
    expect(world.log.some((line) => line.includes('"reason":"consecutive_5xx"'))).toBe(true);
    const labels = ['reason="consecutive_5xx"', 'shop.test'];
    expect(await metric('ambit_endpoint_ejections_total', ...labels)).toBeGreaterThan(0);
    expect(await metric('ambit_cluster_endpoints', 'state="ejected"')).toBe(1);
    broken = false;
    await until(async () => names(await inTurn(4)).has(name));
    expect(await metric('ambit_cluster_endpoints', 'state="ejected"')).toBe(0);
    expect(world.log.some((line) => line.includes('endpoint is back'))).toBe(true);
  });

  test('when too few are healthy all of them are used', async () => {
    const one = await backend('one', status(500));
    const two = await backend('two', status(500));
    await tell({
      settings: { outlier: { ...outlier, minHealthPercent: 60 } },
      route: { retry: retry({ attempts: 0 }) },
    });
    // Each is for one of two by chance: of 100 one has fewer than 20 once in a thousand million times.
    const answers = await inTurn(100);
    expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([500]));
    expect(one.requests.length).toBeGreaterThan(19);
    expect(two.requests.length).toBeGreaterThan(19);
  });

  test('none is healthy and panic is off: 503 with UH', async () => {
    await backend('one', status(500));
    await tell({ settings: { outlier }, route: { retry: retry({ attempts: 0 }) } });
    const answers = await inTurn(3);
    expect(answers.map((answer) => answer.status)).toEqual([500, 500, 503]);
    await soon();
    expect(world.access.at(-1)).toContain(' 503 UH ');
  });

  test('an endpoint that cannot be reached is taken out', async () => {
    const closed = await backend('closed');
    closed.server.closeAllConnections();
    await new Promise((resolve) => closed.server.close(resolve));
    await backend('good');
    await tell({
      settings: {
        outlier: {
          ...outlier,
          consecutive5xx: 0,
          consecutiveLocalOrigin: 2,
          splitExternalLocalOrigin: true,
        },
      },
    });
    await until(async () => {
      await world.ask();
      return (
        (await metric(
          'ambit_endpoint_ejections_total',
          'reason="consecutive_local_origin_failure"',
        )) > 0
      );
    });
    expect(names(await inTurn(10))).toEqual(new Set(['good']));
  });

  test('connections of which only bytes are known count too', async () => {
    const closed = await backend('closed');
    closed.server.closeAllConnections();
    await new Promise((resolve) => closed.server.close(resolve));
    const echo = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.9', resolve));
    const { port } = echo.address() as AddressInfo;
    await world.tell({
      services: [shopService({ ports: [{ name: 'tcp', port: 80, appProtocol: '' }] })],
      workloads: [endpointOf({ name: 'echo', ip: '127.0.0.9', port } as Backend)],
    });
    await tell({ settings: { outlier } });
    const outcomes: boolean[] = [];
    for (let index = 0; index < 30; index += 1) outcomes.push(await echoes());
    expect(outcomes.filter((echoed) => !echoed).length).toBe(2);
    expect(outcomes.slice(-10)).toEqual(Array.from({ length: 10 }, () => true));
    await world.tell({ services: [shopService()] });
    await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/echo' }]);
    echo.close();
  });

  test('a client that leaves says nothing of the endpoint', async () => {
    const slow = await backend('slow', (request) => void request.resume());
    await tell({ settings: { outlier: { ...outlier, consecutive5xx: 1 } } });
    const before = await metric('ambit_endpoint_ejections_total');
    const session = await world.session('leaver');
    const asked = world.ask({ as: 'leaver' }).catch(() => 'cut');
    await until(() => slow.requests.length === 1);
    session.session.destroy();
    expect(await asked).toBe('cut');
    await soon();
    expect(await metric('ambit_endpoint_ejections_total')).toBe(before);
  });
});

describe('repeats', () => {
  test('by fields of the answer that the route names; a client cannot name them', async () => {
    let count = 0;
    await backend('flaky', (request, response) => {
      request.resume();
      count += 1;
      response.writeHead(200, count % 2 === 1 ? { 'x-try-again': '1' } : {});
      response.end();
    });
    const how = retry({ on: ['retriable-headers'], ignorePreviousHosts: false });
    const naming = 'x-envoy-retriable-header-names';
    await tell({ route: { retry: how } });
    await world.ask({ headers: { [naming]: 'x-try-again' } });
    expect(count).toBe(1);
    count = 0;
    const request = { remove: [], set: [[naming, 'X-Try-Again']], add: [] };
    await tell({ route: { retry: how, request } });
    const answer = await world.ask();
    expect([count, answer.headers['x-try-again']]).toEqual([2, undefined]);
    expect(backends[0]?.requests.at(-1)?.headers[naming]).toBeUndefined();
  });

  test('a client cannot ask for repeats by header', async () => {
    const failing = await backend('failing', status(500));
    await tell({});
    await world.ask({ headers: { 'x-envoy-retry-on': '5xx', 'x-envoy-max-retries': '5' } });
    expect(failing.requests.length).toBe(1);
  });

  test('the timeout holds while a repeat is waited for', async () => {
    const failing = await backend('failing', status(503));
    await tell({
      route: {
        timeoutMs: 60,
        // Chosen from none to all of it: as good as never below the timeout.
        retry: retry({ on: ['5xx'], attempts: 9, backoffMs: 1e9, maxBackoffMs: 1e9 }),
      },
    });
    expect((await world.ask()).status).toBe(504);
    await soon();
    expect(world.access.at(-1)).toContain(' 504 UT ');
    expect(failing.requests.length).toBe(1);
    const [cluster] = [...world.waypoint.context.clusters];
    expect([cluster?.retries, cluster?.requests]).toEqual([0, 0]);
  });

  test('a small body is sent again, one over the limit is not', async () => {
    const bodies: number[] = [];
    await backend('failing', (request, response) => {
      let size = 0;
      request.on('data', (chunk: Buffer) => (size += chunk.length));
      request.on('end', () => {
        bodies.push(size);
        response.writeHead(503);
        response.end();
      });
    });
    const how = retry({ on: ['5xx'], ignorePreviousHosts: false });
    await tell({ route: { retry: how } });
    await world.ask({ method: 'PUT', body: 'x'.repeat(1000) });
    expect(bodies).toEqual([1000, 1000, 1000]);
    bodies.length = 0;
    expect((await world.ask({ method: 'PUT', body: 'x'.repeat(200_000) })).status).toBe(503);
    expect(bodies).toEqual([200_000]);
  });

  test('never after the answer began', async () => {
    const cut = await backend('cut', (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-length': '1000' });
      response.write('half');
      setTimeout(() => response.socket?.destroy(), 20);
    });
    await tell({ route: { retry: retry({ on: ['5xx', 'reset'] }) } });
    await expect(world.ask()).rejects.toThrow();
    expect(cut.requests.length).toBe(1);
  });

  test('a slow try is given up for another', async () => {
    const slow = await backend('slow', (request) => void request.resume());
    await backend('quick');
    await tell({ route: { retry: retry({ on: ['gateway-error'], perTryTimeoutMs: 400 }) } });
    await until(async () => {
      expect((await world.ask()).status).toBe(200);
      return slow.requests.length >= 2;
    });
  });

  test('the time of a try is for the endpoint, not for a client that takes long to say all', async () => {
    await backend('quick');
    await tell({ route: { retry: retry({ on: [], perTryTimeoutMs: 300 }) } });
    const asking = { method: 'POST', body: 'all of it', bodyAfterMs: 700 };
    expect((await world.ask(asking)).status).toBe(200);
  });

  test('and it begins once all is said', async () => {
    await backend('slow', (request) => void request.resume());
    await tell({ route: { retry: retry({ on: [], perTryTimeoutMs: 300 }) } });
    const began = performance.now();
    const asking = { method: 'POST', body: 'all of it', bodyAfterMs: 400 };
    expect((await world.ask(asking)).status).toBe(504);
    expect(performance.now() - began).toBeGreaterThan(690);
  });

  /** Fails the first try of each request at once and holds the next, so that repeats are under way together. */
  function failingSlowly(): RequestListener {
    const seen = new Set<unknown>();
    return (request, response) => {
      const { 'x-number': number } = request.headers;
      request.resume();
      response.statusCode = 503;
      setTimeout(() => response.end(), seen.has(number) ? 600 : 0);
      seen.add(number);
    };
  }

  const tenAtOnce = (): Promise<Answer[]> =>
    Promise.all(
      Array.from({ length: 10 }, (_, number) =>
        world.ask({ headers: { 'x-number': String(number) } }),
      ),
    );

  test('no more at a time than the limit, and the rest is told with UO', async () => {
    const failing = await backend('failing', failingSlowly());
    const pool = { ...defaultTraffic.pool, maxRetries: 2 };
    await tell({ settings: { pool }, route: { retry: retry({ on: ['5xx'], attempts: 1 }) } });
    const answers = await tenAtOnce();
    expect(answers.every((one) => one.status === 503)).toBe(true);
    expect(failing.requests.length).toBe(12);
    await soon();
    expect(world.access.slice(-10).filter((line) => line.includes(' 503 UO ')).length).toBe(8);
    expect(await metric('ambit_circuit_breaker_overflow_total', 'limit="retries"')).toBe(8);
  });

  test('the retry budget is a share of what is under way', async () => {
    const failing = await backend('failing', failingSlowly());
    const retryBudget = { percent: 0, minRetryConcurrency: 3 };
    await tell({
      settings: { retryBudget },
      route: { retry: retry({ on: ['5xx'], attempts: 1 }) },
    });
    await tenAtOnce();
    expect(failing.requests.length).toBe(13);
    expect(await metric('ambit_circuit_breaker_overflow_total', 'limit="retry-budget"')).toBe(7);
  });
});

describe('limits', () => {
  test('requests beyond the limit are refused with UO, counted, and not held against endpoints', async () => {
    await backend('slow', (request, response) => {
      request.resume();
      setTimeout(() => response.end('done'), 100);
    });
    const pool = { ...defaultTraffic.pool, maxRequests: 3 };
    await tell({ settings: { pool, outlier: { ...outlier, consecutive5xx: 1 } } });
    const answers = await Promise.all(Array.from({ length: 8 }, () => world.ask()));
    expect(answers.filter((one) => one.status === 503).length).toBe(5);
    expect(await metric('ambit_circuit_breaker_overflow_total', 'limit="requests"')).toBe(5);
    expect((await world.ask()).status).toBe(200);
  });

  test('waiting requests beyond the limit are not tried again elsewhere', async () => {
    await backend('slow', (request, response) => {
      request.resume();
      setTimeout(() => response.end('done'), 100);
    });
    const pool = { ...defaultTraffic.pool, maxConnections: 1, maxPendingRequests: 1 };
    await tell({
      settings: { pool, outlier: { ...outlier, consecutive5xx: 1 } },
      route: { retry: retry({ on: ['5xx', 'connect-failure'], attempts: 5 }) },
    });
    const answers = await Promise.all(Array.from({ length: 6 }, () => world.ask()));
    expect(answers.filter((one) => one.status === 200).length).toBe(2);
    expect(await metric('ambit_circuit_breaker_overflow_total', 'limit="pending"')).toBe(4);
  });
});

describe('health checks', () => {
  const healthCheck = {
    path: '/healthz',
    intervalMs: 100,
    timeoutMs: 400,
    unhealthyThreshold: 2,
    healthyThreshold: 2,
  };

  test('an endpoint that fails them is left out and comes back; no traffic, no check', async () => {
    let well = false;
    let checks = 0;
    const agents = new Set<string | undefined>();
    const name = 'sick';
    await backend(name, (request, response) => {
      request.resume();
      if (request.url === '/healthz') {
        checks += 1;
        agents.add(request.headers['user-agent']);
        response.writeHead(well ? 204 : 500);
      } else response.writeHead(200, { 'x-backend': name });
      response.end();
    });
    await backend('good');
    await tell({ healthCheck });
    await soon();
    expect(checks).toBe(0);
    await world.ask();
    await until(async () => {
      await world.ask();
      return (await metric('ambit_cluster_endpoints', 'state="unhealthy"')) === 1;
    });
    expect(names(await inTurn(10))).toEqual(new Set(['good']));
    expect(agents).toEqual(new Set(['ambit-health-check']));
    const [cluster] = [...world.waypoint.context.clusters];
    const states = cluster?.hosts.map((host) => cluster.stateOf(host));
    expect(states?.sort()).toEqual(['healthy', 'unhealthy']);
    well = true;
    await until(async () => names(await inTurn(4)).has(name));
    await tell({});
    const then = checks;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(checks).toBeLessThanOrEqual(then + 1);
  });

  test('an endpoint that does not answer in time fails', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.9', resolve));
    const { port } = server.address() as AddressInfo;
    await world.tell({
      workloads: [endpointOf({ name: 'mute', ip: '127.0.0.9', port } as Backend)],
    });
    await backend('good');
    await tell({ healthCheck });
    void world.ask().catch(() => undefined);
    await until(() => {
      const [cluster] = [...world.waypoint.context.clusters];
      return cluster?.hosts.some((host) => cluster.stateOf(host) === 'unhealthy') === true;
    });
    expect(names(await inTurn(5))).toEqual(new Set(['good']));
    await world.controller.push([], [{ type: 'workload', name: 'Kubernetes//Pod/test/mute' }]);
    server.close();
  });
});
