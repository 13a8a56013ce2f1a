import { expect, test } from '@jest/globals';
import { replaceAll } from './regex.ts';

test.each([
  ['b+', '/abbc', '<\\0>', '/a<bb>c'],
  ['^/(a)/(.*)$', '/a/x', '/\\2/\\1', '/x/a'],
  ['^/a', '/a/x', '/\\\\1', '/\\1/x'],
  ['^/a', '/a/x', '/\\\\\\0', '/\\/a/x'],
  ['^/(a)', '/a/x', '/b\\10', '/ba0/x'],
  ['a', '/aa', '$0$&$$', '/$0$&$$$0$&$$'],
  ['(a)|(b)', '/ab', '[\\1\\2]', '/[a][b]'],
  ['^/é(.)', '/éü', '/\\1', '/ü'],
  ['x*', '/a', '-', '-/-a-'],
])('%s in %s by %j is %s', (pattern, value, replacement, made) => {
  expect(replaceAll(pattern, value, replacement)).toBe(made);
});

test.each(['/b/\\2', '/b\\', '/b\\n'])(
  'by %j, which is none, nothing is replaced',
  (replacement) => {
    expect(replaceAll('^/(a)', '/a/x', replacement)).toBe('/a/x');
  },
);
