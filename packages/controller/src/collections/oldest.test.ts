import { beforeEach, describe, expect, test } from '@jest/globals';

import { Collection } from './collection.ts';
import { Oldest } from './oldest.ts';

interface Claimant {
  readonly createdAtMs: number;
  readonly claims: readonly string[];
  /** What nobody asks for. */
  readonly more?: number;
}

describe('the oldest of those that claim the same', () => {
  let values: Collection<Claimant>;
  let oldest: Oldest<Claimant>;
  let told: number;
  const reader = { invalidate: () => (told += 1) };
  const put = (key: string, createdAtMs: number, ...claims: readonly string[]): void =>
    values.set(key, { createdAtMs, claims });
  const first = (claim: string, except?: string): string | undefined =>
    oldest.of(claim, except)?.key;

  beforeEach(() => {
    values = new Collection<Claimant>('claimants');
    oldest = new Oldest(values, {
      claims: ({ claims }) => claims,
      createdAtMs: ({ createdAtMs }) => createdAtMs,
    });
    told = 0;
  });

  test('is the one of the earliest time, and of one time the first by name', () => {
    expect(first('x')).toBeUndefined();
    put('c', 3, 'x');
    expect(first('x')).toBe('c');
    put('b', 2, 'x', 'y');
    put('a', 3, 'x');
    expect([first('x'), first('y')]).toEqual(['b', 'b']);
    put('a', 2, 'x');
    expect(first('x')).toBe('a');
    put('a', 2, 'y', 'y');
    expect([first('x'), first('y')]).toEqual(['b', 'a']);
    values.delete('a');
    values.delete('b');
    expect([first('x'), first('y')]).toEqual(['c', undefined]);
  });

  test('is the second where the first is not meant', () => {
    put('a', 1, 'x');
    expect(first('x', 'a')).toBeUndefined();
    put('b', 2, 'x');
    expect([first('x', 'a'), first('x', 'b'), first('x', 'c')]).toEqual(['b', 'a', 'a']);
  });

  test('is known of what was there before', () => {
    put('a', 1, 'x');
    const later = new Oldest(values, {
      claims: ({ claims }) => claims,
      createdAtMs: ({ createdAtMs }) => createdAtMs,
    });
    expect(later.of('x')).toEqual({ key: 'a', createdAtMs: 1 });
  });

  test.each<[string, number, () => void]>([
    ['one that comes after it', 0, () => put('d', 9, 'x')],
    ['one that comes before it', 1, () => put('0', 0, 'x')],
    ['a change of it that says nothing of this', 0, () => more('a')],
    ['its end', 1, () => values.delete('a')],
    ['its giving it up', 1, () => put('a', 1, 'y')],
    ['another age of it', 1, () => put('a', 5, 'x')],
    ['what others claim', 0, () => put('0', 0, 'y')],
    ['the end of the last', 0, () => values.delete('c')],
  ])('who asks is told of its place: %s, %d', (_name, expected, change) => {
    put('a', 1, 'x');
    put('b', 2, 'x');
    put('c', 3, 'x');
    const edges: string[] = [];
    oldest.read('x', undefined, reader, (edge) => edges.push(edge));
    change();
    expect(Math.min(told, 1)).toBe(expected);
    for (const edge of edges) oldest.untrack(edge, reader);
    const before = told;
    values.delete('a');
    values.delete('b');
    expect(told).toBe(before);
  });

  test('who leaves itself out is told of the second place, too', () => {
    put('a', 1, 'x');
    put('b', 2, 'x');
    put('c', 3, 'x');
    oldest.read('x', 'a', reader, () => undefined);
    values.delete('c');
    expect(told).toBe(0);
    values.delete('b');
    expect(told).toBe(1);
  });

  function more(key: string): void {
    const value = values.get(key);
    if (value !== undefined) values.set(key, { ...value, more: 1 });
  }
});
