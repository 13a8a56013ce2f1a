import { describe, expect, test } from '@jest/globals';
import type { Balancing } from '@ambit/api';
import { Choice, warmthOf } from './choice.ts';
import type { ChoiceContext, Host } from './host.ts';

const nowhere = { region: '', zone: '', subzone: '' };

/** A small generator of our own, so that figures are the same in every run. */
function seeded(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function host(id: string, fields: Partial<Host> = {}): Host {
  return { id, locality: nowhere, weight: 1, active: 0, warmSinceMs: undefined, ...fields };
}

function context(fields: Partial<ChoiceContext> = {}): ChoiceContext {
  return { random: seeded(), nowMs: 0, hash: undefined, exclude: new Set(), ...fields };
}

function counts(
  hosts: readonly Host[],
  kind: 'round-robin' | 'least-request' | 'random' | 'passthrough',
  requests: number,
  given: Partial<ChoiceContext> = {},
  warmup?: { durationMs: number; minimumPercent: number; aggression: number },
): Map<string, number> {
  const choice = new Choice(hosts, { balancing: { kind }, warmup, turn: { next: 0 } });
  const of = new Map<string, number>();
  const how = context(given);
  for (let index = 0; index < requests; index += 1) {
    const id = choice.pick(how)?.id ?? '';
    of.set(id, (of.get(id) ?? 0) + 1);
  }
  return of;
}

const abc = [host('a'), host('b'), host('c')];

test('round robin goes round', () => {
  expect([...counts(abc, 'round-robin', 300).values()]).toEqual([100, 100, 100]);
});

test('round robin goes on where it was when the list is made anew', () => {
  const turn = { next: 0 };
  const options = { balancing: { kind: 'round-robin' } as const, warmup: undefined, turn };
  const first = new Choice(abc, options).pick(context())?.id;
  expect(new Choice(abc, options).pick(context())?.id).not.toBe(first);
});

test('round robin by weight is exact and without bursts', () => {
  const weighted = [host('a', { weight: 3 }), host('b'), host('c')];
  expect([...counts(weighted, 'round-robin', 500)]).toEqual([
    ['a', 300],
    ['b', 100],
    ['c', 100],
  ]);
});

test('random is even, and follows weights', () => {
  for (const kind of ['random', 'passthrough'] as const) {
    for (const count of counts(abc, kind, 3000).values()) {
      expect(Math.abs(count - 1000)).toBeLessThan(100);
    }
  }
  const weighted = [host('a', { weight: 8 }), host('b', { weight: 2 })];
  expect(Math.abs((counts(weighted, 'random', 3000).get('a') ?? 0) - 2400)).toBeLessThan(100);
});

describe('least request', () => {
  test('of two the one with fewer requests in flight', () => {
    const busy = [host('a', { active: 5 }), host('b', { active: 1 })];
    expect(counts(busy, 'least-request', 100)).toEqual(new Map([['b', 100]]));
  });

  test('the busiest of many gets nothing, the others share', () => {
    const some = [host('busy', { active: 9 }), ...abc];
    const of = counts(some, 'least-request', 3000);
    expect(of.get('busy')).toBeUndefined();
    expect(of.size).toBe(3);
  });

  test('keeps the load even where endpoints are of different speed', () => {
    const hosts = [host('slow'), host('fast')];
    const choice = new Choice(hosts, {
      balancing: { kind: 'least-request' },
      warmup: undefined,
      turn: { next: 0 },
    });
    const how = context();
    let slow = 0;
    for (let step = 0; step < 1000; step += 1) {
      const taken = choice.pick(how);
      if (taken !== undefined) taken.active += 1;
      if (taken?.id === 'slow') slow += 1;
      for (const one of hosts) {
        const ends = one.id === 'fast' || step % 10 === 0;
        if (ends && one.active > 0) one.active -= 1;
      }
    }
    expect(slow).toBeLessThan(250);
  });

  test('weighs requests in flight by weight', () => {
    const weighted = [host('a', { weight: 4, active: 3 }), host('b', { active: 3 })];
    const of = counts(weighted, 'least-request', 1000);
    expect(of.get('a') ?? 0).toBeGreaterThan(900);
  });
});

test('an endpoint that had the request is left out while there is another', () => {
  for (const kind of ['round-robin', 'least-request', 'random'] as const) {
    const of = counts(abc, kind, 100, { exclude: new Set(['a', 'b']) });
    expect(of).toEqual(new Map([['c', 100]]));
    const all = counts(abc, kind, 100, { exclude: new Set(['a', 'b', 'c']) });
    expect(all.size).toBeGreaterThan(1);
  }
});

describe('consistent hashing', () => {
  const balancings: Balancing[] = [
    { kind: 'ring-hash', key: { kind: 'source-ip' }, minimumRingSize: 1024 },
    { kind: 'maglev', key: { kind: 'source-ip' }, tableSize: 65_537 },
  ];
  test.each(balancings)('$kind: one key, one endpoint; no key, any', (balancing) => {
    const choice = new Choice(abc, { balancing, warmup: undefined, turn: { next: 0 } });
    const how = context({ hash: 4711 });
    const ids = new Set(Array.from({ length: 50 }, () => choice.pick(how)?.id));
    expect(ids.size).toBe(1);
    const any = context();
    expect(new Set(Array.from({ length: 50 }, () => choice.pick(any)?.id)).size).toBe(3);
  });
});

describe('warm-up', () => {
  const warmup = { durationMs: 10_000, minimumPercent: 10, aggression: 1 };

  test('goes from the least share to all of it, straight by default', () => {
    expect(warmthOf(warmup, undefined, 0)).toBe(1);
    expect(warmthOf(warmup, 1000, 1000)).toBe(0.1);
    expect(warmthOf(warmup, 1000, 6000)).toBe(0.5);
    expect(warmthOf(warmup, 1000, 11_000)).toBe(1);
  });

  test('a larger aggression is quicker at first', () => {
    expect(warmthOf({ ...warmup, aggression: 2 }, 0, 2500)).toBeCloseTo(0.5);
  });

  test.each(['round-robin', 'least-request'] as const)('%s gives a new one less', (kind) => {
    const hosts = [host('old'), host('new', { warmSinceMs: 0 })];
    const at = (nowMs: number): number =>
      (counts(hosts, kind, 2000, { nowMs }, warmup).get('new') ?? 0) / 2000;
    expect(at(0)).toBeLessThan(0.15);
    expect(at(5000)).toBeGreaterThan(0.2);
    expect(at(5000)).toBeLessThan(0.4);
    expect(Math.abs(at(20_000) - 0.5)).toBeLessThan(0.05);
  });

  test('random knows no warm-up', () => {
    const hosts = [host('old'), host('new', { warmSinceMs: 0 })];
    const share = (counts(hosts, 'random', 2000, {}, warmup).get('new') ?? 0) / 2000;
    expect(Math.abs(share - 0.5)).toBeLessThan(0.05);
  });
});
