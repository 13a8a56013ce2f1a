import { describe, expect, test } from '@jest/globals';

import { countsMore } from './json-values.ts';

describe('values of a body', () => {
  test.each<[string, number]>([
    ['[1,2,3]', 3],
    ['{"a":{"b":[]},"c":1}', 4],
    ['{"a":"[,{,[,"}', 1],
    ['{"a":"\\",\\\\","b":2}', 2],
    ['[[[[', 4],
    ['{},{},{}', 5],
  ])('%s has %d', (text, values) => {
    // The shortest are not counted at all.
    const body = Buffer.from(text);
    expect([countsMore(body, values), countsMore(body, values - 1)]).toEqual([false, true]);
  });
});
