import { describe, expect, test } from '@jest/globals';
import { fateOf } from './own-daemonset.ts';

const leaving = { 'ambit.dev/leaving': 'true' };
const deletionTimestamp = new Date();

describe('the agents of a DaemonSet', () => {
  test.each([
    ['stay', 'stays', { annotations: { other: 'true' } }],
    ['leave where it says so', 'leaving', { annotations: leaving }],
    [
      'leave where it says so and is deleted',
      'leaving',
      { annotations: leaving, deletionTimestamp },
    ],
    ['stay where it is deleted and says nothing', 'stays', { deletionTimestamp }],
  ])('%s', (_, fate, metadata) => {
    expect(fateOf({ metadata })).toBe(fate);
  });
});
