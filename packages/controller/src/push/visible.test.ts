import type { ResourceType, Upsert } from '@ambit/api';
import { expect, test } from '@jest/globals';

import { fullDifference, namedDifference } from './diff.ts';
import { isVisible, visibleTo } from './visible.ts';

const upserts = new Map<ResourceType, Map<string, Upsert>>(
  (['credential', 'cluster'] as const).map((type) => [
    type,
    new Map(
      ['shop/a', 'shop-two/a', 'other/a'].map((name) => [
        name,
        { type, name, version: '1', resource: {} } as unknown as Upsert,
      ]),
    ),
  ]),
);
const current = {
  resource: (type: ResourceType, name: string) => upserts.get(type)?.get(name),
  all: (type: ResourceType) => upserts.get(type) ?? new Map<string, Upsert>(),
};

test.each([
  ['credential', 'shop/a', true],
  ['credential', 'shop-two/a', false],
  ['credential', 'other/a', false],
  ['cluster', 'other/a', true],
] as const)('a proxy of shop is told of %s %s: %s', (type, name, told) => {
  expect(isVisible(type, name, 'shop')).toBe(told);
});

test('a proxy gets the credentials of its namespace, and loses those that it must not have', () => {
  const visible = visibleTo(current, 'shop');
  const none = new Map<ResourceType, Map<string, string>>();
  expect(
    fullDifference(none, visible, new Set(['credential', 'cluster'])).upserts.map(
      ({ type, name }) => `${type} ${name}`,
    ),
  ).toEqual(['credential shop/a', 'cluster shop/a', 'cluster shop-two/a', 'cluster other/a']);
  const held = new Map([['credential', new Map([['other/a', '1']])]] as const);
  expect(fullDifference(held, visible, new Set(['credential'])).removals).toEqual([
    { type: 'credential', name: 'other/a' },
  ]);
  const changed = new Map([['credential', new Set(['other/a', 'shop/a'])]] as const);
  expect(namedDifference(none, visible, changed).upserts.map(({ name }) => name)).toEqual([
    'shop/a',
  ]);
});
