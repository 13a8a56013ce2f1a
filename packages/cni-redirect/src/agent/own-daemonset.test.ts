import { describe, expect, test } from '@jest/globals';
import { fateOf } from './own-daemonset.ts';

const leaving = { 'ambit.dev/leaving': 'true' };

describe('the DaemonSet of an agent', () => {
  test.each([
    ['stays', { annotations: { other: 'true' } }],
    ['leaving', { annotations: leaving }],
    ['deleted', { annotations: leaving, deletionTimestamp: new Date() }],
  ])('%s', (fate, metadata) => {
    expect(fateOf({ metadata })).toBe(fate);
  });

  test('is deleted when there is none', () => {
    expect(fateOf(undefined)).toBe('deleted');
  });
});
