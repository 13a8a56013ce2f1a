import { describe, expect, test } from '@jest/globals';
import { Groups } from './groups.ts';
import type { Host } from './host.ts';
import { availability, panics, spillOver } from './loads.ts';
import type { Placement } from './locality.ts';

test('a level bears its traffic until fewer than 1/1.4 of it are healthy', () => {
  expect(availability({ total: 10, healthy: 8 })).toBe(1);
  expect(availability({ total: 10, healthy: 5 })).toBeCloseTo(0.7);
  expect(availability({ total: 10, healthy: 0 })).toBe(0);
});

test.each([
  [
    [
      { total: 10, healthy: 10 },
      { total: 10, healthy: 10 },
    ],
    [1, 0],
  ],
  [
    [
      { total: 10, healthy: 5 },
      { total: 10, healthy: 10 },
    ],
    [0.7, 0.3],
  ],
  [
    [
      { total: 10, healthy: 0 },
      { total: 10, healthy: 10 },
    ],
    [0, 1],
  ],
  // Together they bear 0.28 and 0.28: both take more.
  [
    [
      { total: 10, healthy: 2 },
      { total: 10, healthy: 2 },
    ],
    [0.5, 0.5],
  ],
  [
    [
      { total: 10, healthy: 0 },
      { total: 10, healthy: 0 },
    ],
    [0, 0],
  ],
  [
    [
      { total: 10, healthy: 5 },
      { total: 10, healthy: 1 },
      { total: 10, healthy: 9 },
    ],
    [0.7, 0.14, 0.16],
  ],
])('what a level cannot bear goes on to the next: %j', (levels, shares) => {
  for (const [index, share] of spillOver(levels).entries()) {
    expect(share).toBeCloseTo(shares[index] ?? Number.NaN);
  }
});

test('panic is off at 0 and begins below the percentage', () => {
  expect(panics({ total: 4, healthy: 0 }, 0)).toBe(false);
  expect(panics({ total: 4, healthy: 2 }, 50)).toBe(false);
  expect(panics({ total: 4, healthy: 1 }, 50)).toBe(true);
});

describe('groups', () => {
  const list = (prefix: string, count: number): Host[] =>
    Array.from({ length: count }, (_, index) => ({
      id: `${prefix}${index}`,
      locality: { region: '', zone: '', subzone: '' },
      weight: 1,
      active: 0,
      warmSinceMs: undefined,
    }));

  function shares(
    placement: Placement<Host>,
    out: readonly string[],
    more: { minHealthPercent?: number; exclude?: readonly string[]; elsewhere?: boolean } = {},
  ): Record<string, number> {
    const groups = new Groups(placement, {
      balancing: { kind: 'random' },
      warmup: undefined,
      turn: { next: 0 },
      isOut: ({ id }) => out.includes(id),
      minHealthPercent: more.minHealthPercent ?? 0,
    });
    let state = 7;
    const random = (): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
    const context = { random, nowMs: 0, hash: undefined, exclude: new Set(more.exclude) };
    const of: Record<string, number> = {};
    for (let index = 0; index < 2000; index += 1) {
      const id = groups.pick(context, more.elsewhere ?? false)?.id[0] ?? 'none';
      of[id] = (of[id] ?? 0) + 1 / 2000;
    }
    return of;
  }

  const levels = { kind: 'levels', levels: [list('a', 4), list('b', 4)] } as const;

  test('the nearest gets everything while it is well', () => {
    expect(Object.keys(shares(levels, []))).toEqual(['a']);
    expect(Object.keys(shares(levels, ['a0']))).toEqual(['a']);
  });

  test('half of it gone: three tenths go to the next level, all gone: all of it', () => {
    const { a = 0, b = 0 } = shares(levels, ['a0', 'a1']);
    expect(Math.abs(a - 0.7)).toBeLessThan(0.04);
    expect(Math.abs(b - 0.3)).toBeLessThan(0.04);
    expect(Object.keys(shares(levels, ['a0', 'a1', 'a2', 'a3']))).toEqual(['b']);
  });

  test('nobody healthy: nobody is asked, unless panic is wanted', () => {
    const all = ['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'b2', 'b3'];
    expect(Object.keys(shares(levels, all))).toEqual(['none']);
    expect(Object.keys(shares(levels, all, { minHealthPercent: 20 }))).toEqual(['a']);
  });

  test('a repeat that is to go elsewhere leaves its level, though that is well', () => {
    const more = { exclude: ['a1'], elsewhere: true };
    expect(Object.keys(shares(levels, [], more))).toEqual(['b']);
    const everywhere = { exclude: ['a1', 'b1'], elsewhere: true };
    expect(Object.keys(shares(levels, [], everywhere))).toEqual(['a']);
  });

  test('shares of places are kept, and what a failing place cannot bear goes to the others', () => {
    const placement = {
      kind: 'shares',
      shares: [
        { weight: 80, hosts: list('a', 4) },
        { weight: 20, hosts: list('b', 4) },
      ],
    } as const;
    const { a = 0 } = shares(placement, []);
    expect(Math.abs(a - 0.8)).toBeLessThan(0.04);
    expect(Object.keys(shares(placement, ['a0', 'a1', 'a2', 'a3']))).toEqual(['b']);
    const all = ['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'b2', 'b3'];
    expect(Object.keys(shares(placement, all))).toEqual(['none']);
  });
});
