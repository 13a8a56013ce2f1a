import { describe, expect, test } from '@jest/globals';
import type { Activity } from './plan.ts';
import { courseOf, hasTurn, mayEnd, observe } from './plan.ts';

const course = courseOf(20_000);
const look = (...looks: readonly (readonly [bytes: number, atMs: number])[]): Activity =>
  looks.reduce<Activity | undefined>(
    (before, [bytes, atMs]) => observe(before, bytes, atMs),
    undefined,
  )!;

describe('towards the end of a drain a connection is cut', () => {
  const answered = look([20, 0], [30, 100], [50, 200], [50, 250]);

  test('when it is silent after an answer', () => {
    expect(mayEnd(answered, 'received', { nowMs: 300, leftMs: 4_000, course })).toBe(false);
    expect(mayEnd(answered, 'received', { nowMs: 450, leftMs: 4_000, course })).toBe(true);
  });

  test('in the last second at the beginning of a silence, long before the client asks again', () => {
    expect(mayEnd(answered, 'received', { nowMs: 201, leftMs: 900, course })).toBe(false);
    expect(mayEnd(answered, 'received', { nowMs: 202, leftMs: 900, course })).toBe(true);
  });

  test('not while an answer is under way, however long that takes', () => {
    const asked = look([20, 0], [30, 100], [30, 3_000]);
    expect(mayEnd(asked, 'sent', { nowMs: 9_000, leftMs: 100, course })).toBe(false);
  });

  test('not when it was asked again between two looks', () => {
    const both = look([20, 0], [50, 100]);
    expect(mayEnd(both, 'sent', { nowMs: 110, leftMs: 500, course })).toBe(false);
  });

  test('not while bytes come', () => {
    const busy = look([20, 0], [30, 100], [40, 200]);
    expect(mayEnd(busy, 'received', { nowMs: 201, leftMs: 20, course })).toBe(false);
  });

  test('when it was silent all the time', () => {
    const silent = look([0, 0], [0, 100]);
    expect(mayEnd(silent, undefined, { nowMs: 250, leftMs: 4_900, course })).toBe(true);
  });

  test('not before', () => {
    const silent = look([0, 0], [0, 100]);
    expect(mayEnd(silent, undefined, { nowMs: 9_000, leftMs: 5_001, course })).toBe(false);
  });

  test('in a share of the time that a short drain has', () => {
    expect(courseOf(1_000)).toEqual({
      spreadMs: 250,
      windowMs: 500,
      lastPartMs: 100,
      silenceMs: 25,
    });
  });
});

test('connections get their turn one after the other', () => {
  expect([0, 0.5, 0.999].map((lot) => hasTurn(lot, 4_000, course))).toEqual([true, true, false]);
  expect(hasTurn(0.999, 7_500, course)).toBe(true);
});
