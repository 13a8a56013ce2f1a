import { expect, test } from '@jest/globals';
import type { AccessEntry } from './access-entry.ts';
import { compileHeaderFormat } from './header-format.ts';

function written(text: string, headers: Readonly<Record<string, string>> = {}): string {
  const format = compileHeaderFormat(text);
  if (!format.ok) throw new Error(format.error);
  if (format.value.kind === 'fixed') return format.value.value;
  const entry: Pick<AccessEntry, 'requestHeader' | 'responseCode'> = {
    responseCode: 200,
    requestHeader: (name) => headers[name],
  };
  return format.value.write(entry as AccessEntry);
}

test.each([
  ['plain', 'plain', 'fixed'],
  ['', '', 'fixed'],
  ['100%%', '100%', 'fixed'],
  ['%REQ(x-a)%', '1', 'written'],
  ['a=%REQ(X-A)%, code=%RESPONSE_CODE%', 'a=1, code=200', 'written'],
  ['%REQ(x-none?x-a)%', '1', 'written'],
  ['%REQ(x-none)%', '', 'written'],
])('%j writes %j', (text, value, kind) => {
  const format = compileHeaderFormat(text);
  expect(format.ok && format.value.kind).toBe(kind);
  expect(written(text, { 'x-a': '1' })).toBe(value);
});

test('what no header may have is left out, and no value is longer than 8 KiB', () => {
  expect(written('%REQ(x-a)%', { 'x-a': 'a\r\nb: c\u2028' })).toBe('ab: c');
  expect(written('%REQ(x-a)%%REQ(x-a)%', { 'x-a': 'y'.repeat(8000) })).toHaveLength(8192);
});

test.each(['%', '50% off', '%NONSENSE%', '%REQ%', '%ENVIRONMENT(HOME)%'])(
  '%j is refused',
  (text) => {
    expect(compileHeaderFormat(text)).toMatchObject({ ok: false, error: expect.any(String) });
  },
);
