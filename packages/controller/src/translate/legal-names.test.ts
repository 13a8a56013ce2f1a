import { describe, expect, test } from '@jest/globals';

import { illegalName } from './legal-names.ts';
import { parsePattern } from './match.ts';

const told = (attribute: Parameters<typeof illegalName>[0], text: string): boolean => {
  const pattern = parsePattern(text);
  if (!pattern.ok) throw new TypeError(pattern.error);
  return illegalName(attribute, pattern.value) !== undefined;
};

const long = 'a'.repeat(63);

describe('a namespace', () => {
  test.each([
    'shop',
    'a',
    '0',
    'a-b',
    long,
    '*',
    'shop-*',
    'a*',
    '-*'.slice(1),
    '*-b',
    '*b',
    `${long}*`,
  ])('may be %s', (text) => expect(told('source.namespace', text)).toBe(false));
  test.each([
    'A_B',
    'Shop',
    'a.b',
    'a/b',
    '-a',
    'a-',
    `${long}a`,
    '-a*',
    'A*',
    '*A',
    '*b-',
    'a/*',
    `${long}a*`,
  ])('is never %s', (text) => expect(told('source.namespace', text)).toBe(true));
});

describe('a principal', () => {
  test.each([
    'cluster.local/ns/shop/sa/web',
    'a_b.c/ns/shop/sa/web.v1',
    '*',
    'cluster.local/ns/shop/*',
    'cluster.local/ns/shop/s*',
    'cluster.local/ns/shop*',
    'cluster.local/n*',
    'cluster.local/*',
    'cluster*',
    '*/web',
    '*a/web',
    '*/sa/web',
    '*-b/sa/web',
    '*/ns/shop/sa/web',
    '*s/shop/sa/web',
    '*local/ns/shop/sa/web',
    '*b',
  ])('may be %s', (text) => expect(told('source.principal', text)).toBe(false));
  test.each([
    'a/b',
    'web',
    'shop/web',
    'cluster.local/ns/shop',
    'cluster.local/sa/shop/ns/web',
    'cluster.local/ns/shop/sa/web/x',
    'cluster.local/ns/A_B/sa/web',
    'cluster.local/ns//sa/web',
    'Cluster.local/ns/shop/sa/web',
    'cluster.local/shop*',
    'cluster.local/ns/shop/web*',
    '*/shop/web',
    '*x/web',
    '*/cluster.local/ns/shop/sa/web',
  ])('is never %s', (text) => expect(told('source.principal', text)).toBe(true));
});

test('a service account', () => {
  for (const text of ['shop/web', 'shop/web.v1'])
    expect(told('source.serviceAccount', text)).toBe(false);
  for (const text of ['a.b/web', 'shop/-', '-/web'])
    expect(told('source.serviceAccount', text)).toBe(true);
});

test('of a name that a client asks for nothing is known', () => {
  expect(told('connection.sni', 'A_B')).toBe(false);
});
