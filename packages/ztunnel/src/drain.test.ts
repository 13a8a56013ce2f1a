import { describe, expect, test } from '@jest/globals';
import { mayEnd, observe } from './drain.ts';

const look = (...counts: readonly (readonly [sent: number, received: number, atMs: number])[]) =>
  counts.reduce<ReturnType<typeof observe> | undefined>(
    (before, [sent, received, atMs]) => observe(before, { sent, received }, atMs),
    undefined,
  )!;

describe('towards the end of a drain a connection is let go', () => {
  test('when it is silent after an answer, for a share of the time that is left', () => {
    const answered = look([10, 10, 0], [20, 10, 100], [20, 30, 200]);
    expect(mayEnd(answered, 300, 4_000)).toBe(false);
    expect(mayEnd(answered, 400, 4_000)).toBe(true);
    expect(mayEnd(answered, 205, 100)).toBe(true);
  });

  test('not while an answer is under way, however long that takes', () => {
    const asked = look([10, 10, 0], [20, 10, 100], [20, 10, 3_000]);
    expect(mayEnd(asked, 9_000, 100)).toBe(false);
  });

  test('not while bytes come', () => {
    const busy = look([10, 10, 0], [10, 20, 100], [10, 30, 200]);
    expect(mayEnd(busy, 201, 20)).toBe(false);
  });

  test('when it was silent all the time', () => {
    expect(mayEnd(look([0, 0, 0], [0, 0, 100]), 250, 5_000)).toBe(true);
  });
});
