import { expect, test } from '@jest/globals';
import { Patrol, waitMs } from './patrol.ts';

const pace = { roundMs: 60_000, minMs: 1_000, maxMs: 5_000 };

test.each([
  [0, 5_000],
  [3, 5_000],
  [30, 2_000],
  [100, 1_000],
  [1_000, 1_000],
])('of %d things one is looked at every %d ms', (count, ms) => {
  expect(waitMs(pace, count)).toBe(ms);
});

test('each is looked at once in a round, also those that come and go', async () => {
  let now = ['a', 'b', 'c'];
  const looked: string[] = [];
  const quick = { roundMs: 0, minMs: 5, maxMs: 5 };
  const patrol = new Patrol(
    quick,
    () => now,
    (one) => one,
    (one) => {
      looked.push(one);
      if (looked.length === 2) now = ['a', 'c', 'd'];
    },
  );
  try {
    while (looked.length < 7) await new Promise((resolve) => setTimeout(resolve, 5));
  } finally {
    patrol.close();
  }
  expect(looked.slice(0, 7)).toEqual(['a', 'b', 'c', 'd', 'a', 'c', 'd']);
});
