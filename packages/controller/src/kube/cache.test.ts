import { ok } from '@ambit/api';
import { expect, test } from '@jest/globals';

import { ObjectCache } from './cache.ts';

test('what a newer list lacks stays gone, though another watch tells of it late', () => {
  const held = new Map<string, string>();
  const cache = new ObjectCache<string>({
    kind: 'Pod',
    decode: (_object, { resourceVersion }) => ok(resourceVersion),
    onProblem: () => undefined,
    onChanges: (changes) => {
      for (const { key, after } of changes)
        if (after === undefined) held.delete(key);
        else held.set(key, after);
    },
  });
  const pod = (resourceVersion: string) => ({
    metadata: { namespace: 'shop', name: 'a', uid: 'u', resourceVersion },
  });
  cache.upsert(pod('5'));
  const list = cache.list({ namespace: 'shop', shared: () => true });
  list.page([]);
  list.done('10');
  expect([...held]).toEqual([]);
  cache.upsert(pod('7'));
  expect([...held]).toEqual([]);
  cache.upsert(pod('11'));
  expect([...held]).toEqual([['shop/a', '11']]);
});
