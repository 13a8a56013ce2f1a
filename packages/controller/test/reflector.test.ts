import { ok } from '@ambit/api';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { CacheChange } from '../src/kube/cache.ts';
import { ObjectCache } from '../src/kube/cache.ts';
import type { KubeClient } from '../src/kube/client.ts';
import type { Reflector, ReflectorTimings } from '../src/kube/reflector.ts';
import { startReflector } from '../src/kube/reflector.ts';
import { clientOf, fastTimings, until } from './support.ts';

const pods = '/api/v1/pods';
const shared = { namespace: 'shop' };

function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) % below;
  };
}

describe('a reflector', () => {
  let fake: FakeKube;
  let client: KubeClient;
  let reflector: Reflector;
  let cache: ObjectCache<string>;
  const changes: CacheChange<string>[] = [];
  const held = new Map<string, string>();
  const failures: string[] = [];

  const start = (
    pageSize = 3,
    [path = pods, ...otherPaths]: readonly string[] = [pods],
    timings: Partial<ReflectorTimings> = {},
  ): void => {
    changes.length = 0;
    held.clear();
    failures.length = 0;
    cache = new ObjectCache<string>({
      kind: 'Pod',
      decode: (_object, meta) => ok(meta.labels.get('content') ?? ''),
      onProblem: () => undefined,
      onChanges: (some) => {
        for (const change of some) {
          changes.push(change);
          if (change.after === undefined) held.delete(change.key);
          else held.set(change.key, change.after);
        }
      },
    });
    reflector = startReflector({
      client,
      path,
      otherPaths,
      sink: cache,
      timings: { ...fastTimings, ...timings },
      pageSize,
      onFailure: (error) => failures.push((error as Error).message),
    });
  };
  const put = (name: string, content: string) =>
    fake.put(pods, { metadata: { name, ...shared, labels: { content } } });
  const truth = () =>
    new Map(
      fake
        .list(pods)
        .map((pod) => [
          `shop/${pod.metadata.name}`,
          (pod.metadata['labels'] as { content: string }).content,
        ]),
    );
  const settled = async (why: string, timeoutMs = 5_000): Promise<void> => {
    const same = () => {
      const wanted = truth();
      return (
        wanted.size === held.size && [...wanted].every(([key, value]) => held.get(key) === value)
      );
    };
    await until(same, why, timeoutMs);
  };

  beforeEach(async () => {
    fake = await FakeKube.start();
    client = clientOf(fake);
    for (let index = 0; index < 10; index += 1) put(`p-${index}`, 'first');
  });
  afterEach(async () => {
    await reflector.close();
    client.close();
    await fake.close();
  });

  test('lists in pages and then follows', async () => {
    start();
    await settled('the list');
    const lists = fake.requests.filter((one) => one.path === pods && !one.watch);
    expect(lists).toHaveLength(4);
    put('p-0', 'second');
    fake.delete(pods, 'shop/p-1');
    await settled('the events');
    expect(reflector.lists).toBe(1);
    expect(reflector.ageMs()).toBeLessThan(1000);
  });

  test('of several versions takes the one that the API knows, and stays with it', async () => {
    const unknown = '/api/v0/pods';
    fake.intercept = ({ url }) =>
      url.pathname === unknown ? { status: 404, body: { kind: 'Status', code: 404 } } : undefined;
    start(3, [unknown, pods]);
    await settled('the list of the second version');
    fake.expireWatches();
    put('p-0', 'second');
    await settled('the events');
    expect(fake.requests.filter(({ path }) => path === unknown)).toHaveLength(1);
  });

  test('a version that is served no more is left for the one that is', async () => {
    // Any other collection stands for the former version.
    const former = '/api/v1/services';
    for (const { metadata } of fake.list(pods)) fake.put(former, { metadata: { ...metadata } });
    start(3, [former, pods]);
    await settled('the list of the first version');
    await until(() => fake.openWatches === 1, 'the watch');
    fake.intercept = ({ url }) =>
      url.pathname === former ? { status: 404, body: { kind: 'Status', code: 404 } } : undefined;
    fake.endWatches();
    put('p-0', 'second');
    fake.delete(pods, 'shop/p-1');
    await settled('the list of the second version');
  });

  test('an expired continue token: the list is taken whole', async () => {
    let pages = 0;
    fake.intercept = ({ url }) => {
      if (!url.searchParams.has('continue')) return undefined;
      pages += 1;
      return { status: 410, body: { kind: 'Status', code: 410, reason: 'Expired' } };
    };
    start();
    await settled('the list without pages');
    expect(pages).toBe(1);
  });

  test('410 on the watch: a new list, as a difference', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    changes.length = 0;
    fake.silent = true;
    put('p-0', 'second');
    fake.delete(pods, 'shop/p-1');
    fake.compact();
    fake.silent = false;
    fake.expireWatches();
    await settled('the relist');
    expect(changes.map(({ key, after }) => [key, after])).toEqual([
      ['shop/p-0', 'second'],
      ['shop/p-1', undefined],
    ]);
    expect(reflector.lists).toBe(2);
  });

  test('a watch that breaks at the same place whenever it begins there is left for a list', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    // What it is asked for from here on it cannot tell.
    fake.silent = true;
    put('p-0', 'second');
    const why = { code: 500, reason: 'InternalError', message: 'unable to decode an event' };
    for (let round = 0; round < 2; round += 1) {
      await until(() => fake.openWatches === 1, 'the next watch');
      expect(reflector.lists).toBe(1);
      fake.failWatches(why);
      await until(() => fake.openWatches === 0, 'its end');
    }
    await settled('what only a list tells');
    expect(reflector.lists).toBe(2);
  });

  test('an API server that answers 410 for ever is asked ever more seldom', async () => {
    fake.intercept = ({ url }) =>
      url.searchParams.get('watch') === 'true'
        ? { status: 410, body: { kind: 'Status', code: 410 } }
        : undefined;
    start();
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(fake.requests.filter((one) => one.watch).length).toBeLessThan(40);
    expect(held.size).toBe(10);
  });

  test('an API server that throttles is asked again when it says so, for lists and watches', async () => {
    const times: number[] = [];
    const throttled = new Set(['list', 'watch']);
    fake.intercept = ({ url }) => {
      times.push(performance.now());
      const asked = url.searchParams.get('watch') === 'true' ? 'watch' : 'list';
      return throttled.delete(asked)
        ? { status: 429, body: { kind: 'Status', code: 429 }, headers: { 'retry-after': '1' } }
        : undefined;
    };
    start(500, [pods], { backoffMaxMs: 5_000 });
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    // A list that is refused, one that is not, a watch that is refused, one that is not: one second after each refusal.
    expect(times).toHaveLength(4);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(990);
    expect((times[3] ?? 0) - (times[2] ?? 0)).toBeGreaterThanOrEqual(990);
  });

  test('a watch that ends as soon as it begins is asked ever more seldom', async () => {
    fake.intercept = ({ url }) =>
      url.searchParams.get('watch') === 'true' ? { status: 200, body: undefined } : undefined;
    start();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const watches = fake.requests.filter((one) => one.watch).length;
    expect(watches).toBeGreaterThan(3);
    expect(watches).toBeLessThan(40);
  });

  test('a watch that goes silent is left for another', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    fake.silent = true;
    put('p-0', 'second');
    fake.silent = false;
    await settled('what the silent watch did not tell');
    expect(failures.some((message) => message.includes('silent for 300 ms'))).toBe(true);
    expect(reflector.lists).toBe(1);
  });

  test('bookmarks keep a quiet watch alive', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    for (let index = 0; index < 8; index += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      fake.bookmark();
    }
    expect(fake.requests.filter((one) => one.watch)).toHaveLength(1);
  });

  test('what a server never told heals with the next list, which is due when a watch ends', async () => {
    start(3, [pods], { resyncMs: 400, stallMs: 5_000 });
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    fake.shape = () => [];
    put('p-0', 'second');
    fake.delete(pods, 'shop/p-1');
    fake.shape = undefined;
    fake.bookmark();
    fake.endWatches();
    await until(() => fake.openWatches === 1, 'the next watch');
    expect(reflector.lists).toBe(1);
    expect(held.get('shop/p-0')).toBe('first');
    await new Promise((resolve) => setTimeout(resolve, 520));
    fake.bookmark();
    fake.endWatches();
    await settled('what was lost');
    expect([reflector.lists, failures]).toEqual([2, []]);
  });

  test('a connection cut in the middle of an event loses nothing', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    fake.dropWatches();
    put('p-0', 'second');
    await settled('what came while it was away');
    expect(changes.filter((change) => change.after === undefined)).toEqual([]);
  });

  test('versions that begin anew, as after a restored backup, are followed', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    fake.resetVersions();
    fake.dropWatches();
    put('p-0', 'second');
    await settled('the state after the reset');
    expect(changes.filter((change) => change.after === undefined)).toEqual([]);
  });

  test('an answer that is no list changes nothing', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    changes.length = 0;
    let lists = 0;
    fake.intercept = ({ url }) => {
      if (url.searchParams.get('watch') === 'true') return undefined;
      lists += 1;
      return lists < 3 ? { status: 200, body: { kind: 'Status' } } : undefined;
    };
    fake.compact();
    fake.expireWatches();
    await until(() => lists >= 3, 'the third list');
    await settled('the state');
    expect(changes).toEqual([]);
  });

  test('repeated and reordered events: the newest version stays, the deleted stay deleted', async () => {
    start();
    await settled('the list');
    await until(() => fake.openWatches === 1, 'the watch');
    const late: Parameters<NonNullable<typeof fake.shape>>[0][] = [];
    fake.shape = (event) => {
      late.push(event);
      // Each event comes with all that went before it, backwards.
      return [...late].reverse();
    };
    for (const content of ['a', 'b', 'c']) put('p-0', content);
    fake.delete(pods, 'shop/p-1');
    put('p-2', 'd');
    await settled('the newest');
    await new Promise((resolve) => setTimeout(resolve, 50));
    await settled('still the newest');
    expect(held.has('shop/p-1')).toBe(false);
  });

  test('any schedule of faults ends in the same state, and nothing is deleted that was not', async () => {
    const schedules = Number(process.env['REFLECTOR_SCHEDULES'] ?? '40');
    for (let seed = 1; seed <= schedules; seed += 1) {
      const random = seeded(seed);
      fake.silent = false;
      fake.intercept = undefined;
      start(2 + random(4));
      const deleted = new Set<string>();
      for (let step = 0; step < 15; step += 1) {
        const name = `p-${random(12)}`;
        switch (random(9)) {
          case 0:
            fake.dropWatches();
            break;
          case 1:
            fake.compact();
            break;
          case 2:
            fake.expireWatches();
            break;
          case 3:
            fake.intercept = () =>
              random(3) === 0 ? (random(2) === 0 ? 'drop' : { status: 503, body: {} }) : undefined;
            break;
          case 4:
            fake.silent = !fake.silent;
            break;
          case 5:
            deleted.add(`shop/${name}`);
            fake.delete(pods, `shop/${name}`);
            break;
          default:
            put(name, `${seed}-${step}`);
        }
        if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, random(8)));
      }
      fake.silent = false;
      fake.intercept = undefined;
      await settled(`schedule ${seed}`);
      const flashes = changes.filter(({ key, after }) => after === undefined && !deleted.has(key));
      expect(flashes).toEqual([]);
      await reflector.close();
    }
  }, 60_000);
});
