import { describe, expect, test } from '@jest/globals';
import { builtinKinds, builtinSchema } from './builtin.ts';

describe('builtinSchema', () => {
  test('every kind links, all of them together in under 50 ms', () => {
    const start = performance.now();
    for (const { group, version, kind } of builtinKinds()) {
      expect(builtinSchema(group, version, kind)?.type).toBe('object');
    }
    expect(performance.now() - start).toBeLessThan(50);
  });
});
