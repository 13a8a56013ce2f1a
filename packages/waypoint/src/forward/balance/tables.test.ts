import { describe, expect, test } from '@jest/globals';
import { hashOf } from './hash.ts';
import type { HashTable, Host } from './host.ts';
import { MaglevTable } from './maglev.ts';
import { HashRing } from './ring.ts';

const nowhere = { region: '', zone: '', subzone: '' };
const none: ReadonlySet<string> = new Set();

function hosts(count: number, weight: (index: number) => number = () => 1): Host[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `pod-${index}|10.0.0.${index}:8080`,
    locality: nowhere,
    weight: weight(index),
    active: 0,
    warmSinceMs: undefined,
  }));
}

const keys = Array.from({ length: 20_000 }, (_, index) => hashOf(`user-${index}`));

function owners(table: HashTable<Host>): string[] {
  return keys.map((key) => table.pick(key, none)?.id ?? '');
}

function shares(of: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const one of of) counts.set(one, (counts.get(one) ?? 0) + 1 / of.length);
  return counts;
}

function moved(before: readonly string[], after: readonly string[]): number {
  return before.filter((id, index) => id !== after[index]).length / before.length;
}

describe.each([
  ['ring', (list: readonly Host[]) => new HashRing(list, 1024), 0.15],
  ['maglev', (list: readonly Host[]) => new MaglevTable(list, 65_537), 0.05],
])('%s', (name, make, tolerance) => {
  test('every endpoint has about its share of the keys', () => {
    for (const share of shares(owners(make(hosts(10)))).values()) {
      expect(Math.abs(share - 0.1)).toBeLessThan(0.1 * tolerance);
    }
  });

  test('an endpoint that goes moves its own keys, and hardly another', () => {
    const before = owners(make(hosts(10)));
    const gone = hosts(10)[4]?.id ?? '';
    const after = owners(make(hosts(10).filter(({ id }) => id !== gone)));
    const others = before.filter((id, index) => id !== gone && after[index] !== id).length;
    expect(after).not.toContain(gone);
    // Maglev gives up a little of it for its evenness; the ring nothing.
    expect(others / before.length).toBeLessThan(name === 'ring' ? 1e-9 : 0.03);
  });

  test('an endpoint that comes takes about its share', () => {
    const before = owners(make(hosts(10)));
    const after = owners(make(hosts(11)));
    expect(moved(before, after)).toBeGreaterThan(0.04);
    expect(moved(before, after)).toBeLessThan(0.16);
  });

  test('the order of the list says nothing', () => {
    expect(owners(make(hosts(10).reverse()))).toEqual(owners(make(hosts(10))));
  });

  test('shares follow weights', () => {
    const list = hosts(4, (index) => (index === 0 ? 3 : 1));
    const share = shares(owners(make(list))).get(list[0]?.id ?? '') ?? 0;
    expect(share).toBeGreaterThan(0.42);
    expect(share).toBeLessThan(0.58);
  });

  test('a key whose endpoint was tried goes to another, always the same', () => {
    const table = make(hosts(10));
    for (const key of keys.slice(0, 100)) {
      const first = table.pick(key, none)?.id ?? '';
      const second = table.pick(key, new Set([first]))?.id ?? '';
      expect(second).not.toBe(first);
      expect(table.pick(key, new Set([first]))?.id).toBe(second);
    }
    const all = new Set(hosts(10).map(({ id }) => id));
    expect(table.pick(keys[0] ?? 0, all)).toBeDefined();
  });

  test('nobody is there', () => {
    expect(make([]).pick(1, none)).toBeUndefined();
  });
});

test('the ring is at least as large as asked for, and bounded for many endpoints', () => {
  expect(new HashRing(hosts(3), 1024).size).toBe(3 * 1024);
  expect(new HashRing(hosts(3), 65_536).size).toBeGreaterThanOrEqual(65_536);
  expect(new HashRing(hosts(2000), 1024).size).toBe(2000 * 64);
});

test('a table whose size is no prime is filled nevertheless', () => {
  const table = new MaglevTable(hosts(7), 1000);
  expect(shares(owners(table)).size).toBe(7);
});
