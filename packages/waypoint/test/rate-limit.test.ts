import type { Upsert } from '@ambit/api';
import { decodeRateLimitPolicy, decodeWith } from '@ambit/api';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

let world: WaypointWorld;
let backend: Backend;
let version = 0;

beforeAll(async () => {
  backend = await startBackend('v1');
  world = await startWorld({ workloads: [endpointOf(backend)], services: [shopService()] });
});
afterAll(async () => {
  await world.close();
  await backend.close();
});

async function limit(limits: readonly Record<string, unknown>[], dryRun = false): Promise<void> {
  version += 1;
  const decoded = decodeWith(decodeRateLimitPolicy, {
    name: 'p',
    namespace: 'test',
    targets: [{ kind: 'service', service: shopKey }],
    dryRun,
    limits: limits.map((one, index) => ({
      name: `l${version}-${index}`,
      when: [],
      routes: [],
      key: { kind: 'none' },
      requests: 1,
      perMs: 3_600_000,
      burst: 1,
      ...one,
    })),
  });
  if (!decoded.ok) throw new TypeError(decoded.error.message);
  const upsert = { type: 'rate-limit', name: 'test/p', resource: decoded.value } as const;
  await world.tell({ more: [{ ...upsert, version: `r${version}` as Upsert['version'] }] });
}

const statusesOf = async (asking: readonly Parameters<WaypointWorld['ask']>[0][]) => {
  const statuses: number[] = [];
  for (const one of asking) statuses.push((await world.ask(one)).status);
  return statuses;
};

test('each client has its own share, and is told when to come again', async () => {
  await limit([{ key: { kind: 'client-identity' } }]);
  expect(await statusesOf([{ as: 'ann' }, { as: 'ann' }, { as: 'bob' }])).toEqual([200, 429, 200]);
  const refused = await world.ask({ as: 'ann' });
  expect(refused.body).toBe('local_rate_limited');
  expect(refused.headers).toMatchObject({ 'retry-after': '3600', 'x-ratelimit-limit': '1' });
  for (let tries = 0; !world.access.some((line) => / 429 RL /.test(line)); tries += 1) {
    if (tries > 200) throw new Error(world.access.join('\n'));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(world.access.join('\n')).toContain('local_rate_limited[policy=test/p,limit=l1-0]');
  expect(await world.metrics.render()).toMatch(
    /ambit_rate_limited_total\{[^}]*enforced="true"\} 2/,
  );
});

test('a limit is for what it matches', async () => {
  const values = [{ kind: 'prefix', value: '/api' }];
  const path = { kind: 'request', attribute: { kind: 'path' }, values, notValues: [] };
  await limit([{ when: [path], key: { kind: 'header', name: 'x-key' } }]);
  const key = (value: string) => ({ path: '/api/1', headers: { 'x-key': value } });
  const asked = [key('a'), key('a'), key('b'), { path: '/' }, { path: '/' }];
  expect(await statusesOf(asked)).toEqual([200, 429, 200, 200, 200]);
});

test('a change of one limit leaves the counts of another, and in dry run all pass', async () => {
  await limit([{ name: 'kept' }]);
  expect(await statusesOf([{}, {}])).toEqual([200, 429]);
  await limit([{ name: 'kept' }, { name: 'other', burst: 5 }]);
  expect(await statusesOf([{}])).toEqual([429]);
  await limit([{ name: 'kept' }], true);
  expect(await statusesOf([{}, {}])).toEqual([200, 200]);
  expect(await world.metrics.render()).toMatch(/ambit_rate_limited_total\{[^}]*enforced="false"\}/);
});

test('a gRPC client gets its own kind of answer', async () => {
  await limit([{}]);
  const headers = { 'content-type': 'application/grpc' };
  await world.ask({ method: 'POST', headers });
  const refused = await world.ask({ method: 'POST', headers });
  expect([refused.status, refused.headers['grpc-status']]).toEqual([200, '14']);
  expect(refused.headers['retry-after']).toBe('3600');
});
