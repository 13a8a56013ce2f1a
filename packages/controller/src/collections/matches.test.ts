import type { ServiceKey } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import { Collection } from './collection.ts';
import type { Labels } from './matches.ts';
import { byEnding, byLabels, bySelector, Matches } from './matches.ts';

interface Value {
  readonly namespace: string | undefined;
  readonly labels: Labels;
}

const labels = (written: Readonly<Record<string, string>>): Labels =>
  new Map(Object.entries(written));
const scope = ({ namespace }: Value): string | undefined => namespace;

describe('what selects by labels', () => {
  let values: Collection<Value>;
  let selecting: Matches<Value, Labels>;
  let told: number;
  const reader = { invalidate: () => (told += 1) };

  beforeEach(() => {
    values = new Collection<Value>('selectors');
    selecting = new Matches(values, bySelector<Value>({ scope, selector: (one) => one.labels }));
    told = 0;
    put('web', { app: 'web' });
    put('v1', { version: 'v1', app: 'web' });
    put('tier', { tier: 'front', version: 'v1' });
    put('all', {});
    put('other', { app: 'web' }, 'other');
    put('none', { app: 'web' }, 'nobody');
  });

  function put(key: string, written: Record<string, string>, namespace = 'shop'): void {
    const of = namespace === 'nobody' ? undefined : namespace;
    values.set(key, { namespace: of, labels: labels(written) });
  }
  const keyOf = (found: Value): string =>
    [...values.entries()].find(([, value]) => value === found)?.[0] ?? '';
  const found = (written: Record<string, string>, namespace = 'shop'): readonly string[] =>
    selecting.find(namespace, labels(written)).map(keyOf);

  test('is found by labels that hold all of it, in the order of keys', () => {
    expect(found({ app: 'web', version: 'v1', tier: 'front' })).toEqual([
      'all',
      'tier',
      'v1',
      'web',
    ]);
    expect(found({ app: 'web' })).toEqual(['all', 'web']);
    expect(found({})).toEqual(['all']);
    expect(found({ app: 'web' }, 'other')).toEqual(['other']);
    expect(found({ app: 'web' }, 'nowhere')).toEqual([]);
    values.delete('all');
    put('web', { app: 'cart' });
    put('0', { app: 'web' });
    expect(found({ app: 'web' })).toEqual(['0']);
    expect(found({ app: 'cart' })).toEqual(['web']);
  });

  test.each<[string, number, () => void]>([
    ['one that selects them', 1, () => put('new', { app: 'web' })],
    ['one that selects others', 0, () => put('new', { app: 'cart' })],
    ['one of another namespace', 0, () => put('new', { app: 'web' }, 'other')],
    ['one that changes and selects them no more', 1, () => put('web', { app: 'cart' })],
    ['one that went', 1, () => values.delete('all')],
    ['one of others that went', 0, () => values.delete('tier')],
  ])('who asks is told of those that match: %s, %d', (_name, expected, change) => {
    const [, asked] = selecting.read('shop', labels({ app: 'web' }), reader);
    change();
    expect(Math.min(told, 1)).toBe(expected);
    selecting.untrack(asked);
    const before = told;
    put('newer', { app: 'web' });
    expect(told).toBe(before);
  });

  test('who asked before there was anything is told', () => {
    selecting.read('nowhere', labels({ app: 'web' }), reader);
    put('new', { app: 'web' }, 'nowhere');
    expect(told).toBe(1);
  });
});

test('what has labels is found by what selects it', () => {
  const values = new Collection<Value>('labelled');
  values.set('b', { namespace: 'shop', labels: labels({ app: 'web', version: 'v1' }) });
  values.set('a', { namespace: 'shop', labels: labels({ app: 'web' }) });
  values.set('c', { namespace: 'other', labels: labels({ app: 'web' }) });
  const labelled = new Matches(values, byLabels<Value>({ scope, labels: (one) => one.labels }));
  const found = (selector: Record<string, string>) =>
    labelled.find('shop', labels(selector)).map((one) => one.labels.size);
  expect(found({ app: 'web' })).toEqual([1, 2]);
  expect(found({ version: 'v1', app: 'web' })).toEqual([2]);
  expect(found({})).toEqual([1, 2]);
  expect(found({ app: 'cart' })).toEqual([]);
});

test('what has wildcards is found by services that they cover', () => {
  interface Wild {
    readonly name: string;
    readonly endings: readonly string[];
  }
  const values = new Collection<Wild>('wild');
  const covering = new Matches(
    values,
    byEnding<Wild>({ scope: () => 'any', endings: ({ endings }) => endings }),
  );
  const put = (name: string, ...endings: readonly string[]) => values.set(name, { name, endings });
  put('all', '');
  put('shop', '.shop.svc.cluster.local', '.local');
  put('other', '.other.svc.cluster.local');
  put('whole', 'web.shop.svc.cluster.local');
  put('namespace', '/web.shop.svc.cluster.local');
  const service = 'shop/web.shop.svc.cluster.local' as ServiceKey;
  expect(covering.find('any', service).map(({ name }) => name)).toEqual(['all', 'shop', 'whole']);
  let told = 0;
  covering.read('any', service, { invalidate: () => (told += 1) });
  put('other', '.more.svc.cluster.local');
  expect(told).toBe(0);
  put('other', '.cluster.local');
  expect(told).toBe(1);
});
