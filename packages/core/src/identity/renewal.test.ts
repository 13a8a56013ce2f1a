import { expect, test } from '@jest/globals';
import { isOfRoots, renewalSpreadMs } from './renewal.ts';

test('a certificate is of the roots it was made for, in their order', () => {
  expect(isOfRoots({ roots: ['a', 'b'] }, ['a', 'b'])).toBe(true);
  expect(isOfRoots({ roots: ['a', 'b'] }, ['b', 'a'])).toBe(false);
  expect(isOfRoots({ roots: ['a', 'b'] }, ['b'])).toBe(false);
  expect(isOfRoots({ roots: ['a'] }, ['a', 'b'])).toBe(false);
});

test('many renewals take a while, and never too long', () => {
  expect(renewalSpreadMs(1)).toBe(2_000);
  expect(renewalSpreadMs(20)).toBe(10_000);
  expect(renewalSpreadMs(5_000)).toBe(60_000);
});
