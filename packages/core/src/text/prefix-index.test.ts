import { describe, expect, test } from '@jest/globals';
import { PrefixIndex } from './prefix-index.ts';

function found(index: PrefixIndex<string>, text: string): string[] {
  const all: string[] = [];
  index.visit(text, (items) => all.push(...items));
  return all;
}

describe('what is kept under a text and its beginnings', () => {
  const index = new PrefixIndex([
    { value: '/a', kind: 'prefix', item: 'a' },
    { value: '/a/b', kind: 'prefix', item: 'ab' },
    { value: '/a/b', kind: 'exact', item: '=ab' },
    { value: '/a/b/c', kind: 'exact', item: '=abc' },
    { value: '', kind: 'prefix', item: 'all' },
    { value: '/a-z', kind: 'prefix', item: 'a-z' },
    { value: '/a', kind: 'prefix', item: 'a again' },
  ]);
  test.each([
    ['/a', ['a', 'a again', 'all']],
    ['/a/b', ['=ab', 'ab', 'a', 'a again', 'all']],
    ['/a/b/c', ['=abc', 'ab', 'a', 'a again', 'all']],
    ['/a/b/d', ['ab', 'a', 'a again', 'all']],
    ['/a-zoo', ['a-z', 'a', 'a again', 'all']],
    ['/b', ['all']],
    ['', ['all']],
  ])('%s', (text, expected) => {
    expect(found(index, text)).toEqual(expected);
  });

  test('nothing is kept: nothing is found', () => {
    expect(found(new PrefixIndex<string>([]), '/a')).toEqual([]);
  });
});

test('it finds what looking at each item finds', () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  const word = (): string =>
    Array.from({ length: random(5) }, () => '/ab\u00e9\u{1f600}'[random(6)] ?? '').join('');
  for (let round = 0; round < 300; round += 1) {
    const items = Array.from({ length: random(30) }, (_, at) => ({
      value: word(),
      kind: random(3) === 0 ? ('exact' as const) : ('prefix' as const),
      item: String(at),
    }));
    const index = new PrefixIndex(items);
    const text = word();
    const expected = items
      .filter(({ value, kind }) => (kind === 'exact' ? value === text : text.startsWith(value)))
      .map(({ item }) => item);
    expect(found(index, text).sort()).toEqual(expected.sort());
  }
});
