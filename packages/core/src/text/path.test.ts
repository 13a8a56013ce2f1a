import { describe, expect, test } from '@jest/globals';
import { normalizeMatchedPath, normalizePath } from './path.ts';

const of = (target: string): string => {
  const normal = normalizePath(target);
  return normal.ok ? normal.value : `400 ${normal.error}`;
};

/** Facts of Istio's acceptance test of normalisation, mode DECODE_AND_MERGE_SLASHES. */
describe("Istio's table", () => {
  test.each([
    ['/', '/'],
    ['/app/', '/app/'],
    ['/app/../admin', '/admin'],
    ['/app', '/app'],
    ['/app//', '/app/'],
    ['/app/%2f', '/app/'],
    ['/app%2f/', '/app/'],
    ['/xyz%30..//abc', '/xyz0../abc'],
    ['/app/%2E./admin', '/admin'],
    ['/app\\admin', '/app/admin'],
    ['/app/\\/\\/\\admin', '/app/admin'],
    ['/%2Fapp%5cadmin%5Cabc', '/app/admin/abc'],
    ['/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc', '/app/admin/abc'],
    ['/app//../admin', '/app/admin'],
    ['/app//../../admin', '/admin'],
    ['/0x2e0x2e/admin', '/0x2e0x2e/admin'],
    ['/0x2e0x2e0x2fadmin', '/0x2e0x2e0x2fadmin'],
    ['/0x2e0x2e0x5cadmin', '/0x2e0x2e0x5cadmin'],
    ['/0x2f0x2fadmin', '/0x2f0x2fadmin'],
    ['/0x5c0x5cadmin', '/0x5c0x5cadmin'],
    ['/.../admin', '/.../admin'],
    ['/..../admin', '/..../admin'],
    ['/admin;a=b', '/admin;a=b'],
    ['/admin;a=b/xyz', '/admin;a=b/xyz'],
    ['/admin,a=b/xyz', '/admin,a=b/xyz'],
    ['/Admin', '/Admin'],
    ['/ADMIN', '/ADMIN'],
    ['/admin%00', '400 the path holds an escaped control character'],
  ])('%s becomes %s', (target, expected) => {
    expect(of(target)).toBe(expected);
  });

  test.each([
    ['/app#foo', 'a fragment'],
    ['/%c0%2e%c0%2e/admin', 'no UTF-8'],
    ['/%c0%2fadmin', 'no UTF-8'],
    ['/%c1%9cadmin', 'no UTF-8'],
    ['/%c0%ae%c0%ae/admin', 'no UTF-8'],
    ['/%c0%afadmin', 'no UTF-8'],
    ['/%25c0%25ae%25c1%259cadmin', 'encoded twice'],
    ['/%25c0%25ae%25c0%25ae/admin', 'encoded twice'],
    ['/%25c0%25afadmin', 'encoded twice'],
    ['/%25c1%259cadmin', 'encoded twice'],
    ['/%252e%252e/admin', 'encoded twice'],
    ['/%252e%252e%252fadmin', 'encoded twice'],
    ['/..;/admin', 'hides a dot segment'],
    ['/x/..%3b/admin', 'hides a dot segment'],
    ['/x/%2e%2e%3b/admin', 'hides a dot segment'],
    ['/.;x/admin', 'hides a dot segment'],
    ['/;/admin', 'hides an empty segment'],
    ['/;x=1/admin', 'hides an empty segment'],
    ['/x/%3b/admin', 'hides an empty segment'],
    ['/%2f;/admin', 'hides an empty segment'],
    ['/%e0%80%af../admin', 'no UTF-8'],
    ['/x/%e0%80%ae%e0%80%ae/admin', 'no UTF-8'],
    ['/%f0%80%80%af', 'no UTF-8'],
    ['/%f4%90%80%80', 'no UTF-8'],
    ['/%ed%a0%80', 'no UTF-8'],
    ['/%80', 'no UTF-8'],
    ['/a%bfb', 'no UTF-8'],
    ['/%c3', 'no UTF-8'],
    ['/%c3/%a9', 'no UTF-8'],
    ['/%c3%c3%a9', 'no UTF-8'],
    ['/%c3%2f', 'no UTF-8'],
    ['/%e2%82', 'no UTF-8'],
    ['/%c3%a9%a9', 'no UTF-8'],
  ])('%s, which Istio lets through, is refused', (target, why) => {
    expect(of(target)).toMatch(/^400 /);
    expect(of(target)).toContain(why);
  });

  test('every escape from %01 to %ff', () => {
    for (let byte = 1; byte <= 0xff; byte += 1) {
      const escape = `%${byte.toString(16).padStart(2, '0')}`;
      const char = String.fromCharCode(byte);
      const refused = byte < 0x20 || byte >= 0x7f;
      const decoded = /[A-Za-z0-9._~\-/\\]/.test(char);
      const expected = decoded ? char.replace('\\', '/') : escape.toUpperCase();
      if (refused) expect(of(`/admin${escape}`)).toMatch(/^400 /);
      else expect(of(`/admin${escape}`)).toBe(`/admin${expected}`);
    }
  });
});

test('a query stays as it came', () => {
  expect(of('/a/../b?x=/../%2e%2e//%00\\')).toBe('/b?x=/../%2e%2e//%00\\');
  expect(of('/?a=%2f')).toBe('/?a=%2f');
});

test('a broken escape, a fragment in the query and what is no path are refused', () => {
  for (const target of ['/a%', '/a%2', '/a%zz', '/a?x#y', 'a', '', '%2fa']) {
    expect([target, of(target).slice(0, 4)]).toEqual([target, '400 ']);
  }
  expect(of('*')).toBe('*');
  expect(of('/100%25')).toBe('/100%25');
});

/** Words that path tricks are made of, put together at random but repeatably. */
const words = [
  '/', '//', '.', '..', '%2e', '%2E', '%2f', '%5c', '\\', 'admin', 'a', '%61', '%25', '%', ';', ';x', '%c0', '%af',
  '%00', '%C3%A9', '~', '%7e', ',', '%20', '?', '=', '#', '*',
]; // prettier-ignore

test('what comes out is stable, has no dots, no double slashes and no second reading: 50,000 made-up targets', () => {
  let seed = 20_261_128;
  const random = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
  let accepted = 0;
  for (let round = 0; round < 50_000; round += 1) {
    let target = '/';
    const length = 1 + Math.floor(random() * 8);
    for (let at = 0; at < length; at += 1) {
      target += words[Math.floor(random() * words.length)] ?? '';
    }
    const normal = normalizePath(target);
    if (!normal.ok) continue;
    accepted += 1;
    const [path = '', ...query] = normal.value.split('?');
    const problems = [
      of(normal.value) !== normal.value && 'not stable',
      /\/\/|\\|\/\.{1,2}(?:[/;]|$)/.test(path) && 'dots or slashes',
      /%(?:2[fF]|5[cC]|2[eE]|25[0-9A-Fa-f]{2}|c[01]|C[01])/.test(path) && 'a second reading',
      query.join('?') !== target.split('?').slice(1).join('?') && 'another query',
    ].filter((one) => one !== false);
    if (problems.length > 0) expect({ target, normal: normal.value, problems }).toBe(undefined);
  }
  expect(accepted).toBeGreaterThan(5_000);
});

test('UTF-8 stays as it is, with capitals, and nothing else passes', () => {
  const characters = ['é', '߿', 'ࠀ', '퟿', '\ue000', '\uffff', '日本', '𐀀', '\u{10ffff}', '😀;x'];
  for (const text of characters) {
    const escaped = encodeURIComponent(text);
    expect(of(`/x/${escaped}/./y`)).toBe(`/x/${escaped}/y`);
    expect(of(`/x/${escaped.toLowerCase()}`)).toBe(`/x/${escaped}`);
  }
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const isUtf8 = (bytes: readonly number[]): boolean => {
    try {
      strict.decode(Uint8Array.from(bytes));
      return true;
    } catch {
      return false;
    }
  };
  const edges = [
    0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xe0, 0xed, 0xf0, 0xf4,
  ];
  for (let first = 0x80; first <= 0xff; first += 1) {
    for (const second of edges) {
      for (const third of edges) {
        for (const bytes of [
          [first, second],
          [first, second, third],
          [first, second, third, 0x80],
          [first, second, third, 0xbf],
        ]) {
          const target = `/${bytes.map((byte) => `%${byte.toString(16)}`).join('')}`;
          expect([target, normalizePath(target).ok]).toEqual([target, isUtf8(bytes)]);
        }
      }
    }
  }
});

describe('what a route compares paths with', () => {
  test.each([
    ['/caf%c3%a9', '/caf%C3%A9'],
    ['/café a', '/caf%C3%A9%20a'],
    ['/%7Euser', '/~user'],
    ['/a//b', '/a/b'],
    ['/a%2Fb', '/a/b'],
    ['/a/./b/../c', '/a/c'],
    ['*', '*'],
  ])('%s has the form of a request for it', (written, normal) => {
    expect(normalizeMatchedPath(written, 'whole')).toEqual({ ok: true, value: normal });
    const asked = written.replaceAll('é', '%c3%a9').replaceAll(' ', '%20');
    expect(of(asked)).toBe(normal);
  });

  test.each([
    ['//x', '/x'],
    ['/a//', '/a/'],
    ['/a/..', '/a/..'],
    ['/a/../.b', '/.b'],
    ['/caf%c3', '/caf%C3'],
    ['/a%c', '/a%C'],
    ['/a%', '/a%'],
  ])('a prefix by characters, %s, may end anywhere', (written, normal) => {
    expect(normalizeMatchedPath(written, 'prefix')).toEqual({ ok: true, value: normal });
  });

  test.each([
    ['x', 'start with /'],
    ['/a?b', 'query'],
    ['/a#b', 'fragment'],
    ['/a%00', 'control'],
    ['/a%zz', 'broken escape'],
    ['/caf%c3/x', 'UTF-8'],
    ['/%2541', 'twice'],
  ])('%s is never one', (written, why) => {
    for (const extent of ['whole', 'prefix'] as const) {
      const normal = normalizeMatchedPath(written, extent);
      expect(normal.ok ? normal.value : normal.error).toContain(why);
    }
  });
});
