import { expect, test } from '@jest/globals';

import { decodeParameters } from './parameters.ts';
import { decodeSecret } from './secret.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('of a Secret the keys of certificates are kept', () => {
  expect(decodeSecret({ data: { 'tls.crt': base64('a'), other: base64('b') } })).toEqual({
    kind: 'read',
    values: new Map([['tls.crt', 'a']]),
  });
});

test('a Secret of more than certificates fill is not read, however it is shared out', () => {
  const half = base64('x'.repeat(160_000));
  expect(decodeSecret({ data: { cacert: half, other: half } }).kind).toBe('read');
  expect(decodeSecret({ data: { cacert: half, 'ca.crt': half } })).toEqual({
    kind: 'unreadable',
    why: 'its certificates are more than 400000 characters',
  });
});

test('a ConfigMap of more than parameters fill is not read', () => {
  const half = 'x'.repeat(64 * 1024);
  expect(decodeParameters({ data: { deployment: half } }).kind).toBe('read');
  expect(decodeParameters({ data: { deployment: half, service: half } })).toEqual({
    kind: 'unreadable',
    why: 'its texts are more than 131072 characters',
  });
});
