import { describe, expect, test } from '@jest/globals';
import type { HttpMatch } from '@ambit/api';

import { compileSpec, destination } from '../../test/virtual-services.ts';

function matched(match: object): { readonly match: HttpMatch; readonly told: readonly string[] } {
  const { http, problems } = compileSpec({
    hosts: ['reviews'],
    http: [{ match: [match], route: [destination('reviews')], rewrite: { uri: '/' } }],
  });
  const told = problems.map((one) => `${one.field}: ${one.message} ${one.admissible ?? ''}`);
  return { match: http[0]!.matches[0]!, told };
}

describe('a path is compared in the form in which requests arrive', () => {
  test.each([
    ['exact', '/caf%c3%a9', '/caf%C3%A9'],
    ['exact', '/café', '/caf%C3%A9'],
    ['exact', '/%7Euser', '/~user'],
    ['exact', '/a//b', '/a/b'],
    ['exact', '/a%2Fb', '/a/b'],
    ['exact', '*', '*'],
    ['prefix', '//x', '/x'],
    ['prefix', '/a%2f', '/a/'],
    ['prefix', '/a/..', '/a/..'],
    ['regex', '/a%2fb', '/a%2fb'],
  ])('%s %s', (kind, written, value) => {
    for (const ignoreUriCase of [false, true]) {
      const { match, told } = matched({ uri: { [kind]: written }, ignoreUriCase });
      expect(match.path).toEqual({ kind, value });
      expect(told).toEqual([]);
    }
  });

  test('what no request can have is told, with its field', () => {
    const { match, told } = matched({ uri: { exact: '/a?b=1' } });
    expect(match.path).toEqual({ kind: 'exact', value: '/a?b=1' });
    expect(told).toEqual([
      'spec.http[0].match[0].uri.exact: no request has such a path (paths are compared without ' +
        'their query); the match never holds, mend or remove it true',
    ]);
  });
});

test('an authority is compared in lower case, as requests have it', () => {
  const of = (authority: object) => matched({ authority }).match.authority;
  expect(of({ exact: 'Shop.Test' })).toEqual({ kind: 'exact', value: 'shop.test' });
  expect(of({ prefix: 'Shop' })).toEqual({ kind: 'prefix', value: 'shop' });
  expect(of({ regex: '[A-Z]hop' })).toEqual({ kind: 'regex', value: '[A-Z]hop' });
});
