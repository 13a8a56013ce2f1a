import { describe, expect, test } from '@jest/globals';
import { builtinKinds, builtinSchema } from './builtin.ts';

describe('builtinSchema', () => {
  test('every kind links, all of them together in under 50 ms of CPU', () => {
    const start = process.cpuUsage();
    for (const { group, version, kind } of builtinKinds()) {
      expect(builtinSchema(group, version, kind)?.type).toBe('object');
    }
    const { user } = process.cpuUsage(start);
    expect(user / 1000).toBeLessThan(50);
  });
});
