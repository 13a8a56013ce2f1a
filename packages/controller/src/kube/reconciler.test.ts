import { afterEach, describe, expect, test } from '@jest/globals';

import { KubeError } from './error.ts';
import type { Reconciler } from './reconciler.ts';
import { createReconciler } from './reconciler.ts';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('work that the API server throttles', () => {
  let reconciler: Reconciler;
  afterEach(() => reconciler.close());

  test('is all left alone until the server may be asked again, and then all done', async () => {
    const tries: string[] = [];
    const done: string[] = [];
    let throttles = true;
    reconciler = createReconciler({
      run: (key) => {
        tries.push(key);
        if (throttles)
          return Promise.reject(new KubeError('PATCH x', { status: 429, retryAfterMs: 300 }));
        done.push(key);
        return Promise.resolve();
      },
      onError: () => undefined,
      retryMs: 10,
    });
    for (const key of ['a', 'b', 'c', 'd']) reconciler.enqueue(key);
    await wait(100);
    reconciler.enqueue('e');
    await wait(100);
    expect(tries).toEqual(['a']);
    throttles = false;
    await wait(300);
    expect(done.sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  test('does not hold up what fails otherwise', async () => {
    const tries: string[] = [];
    reconciler = createReconciler({
      run: (key) => {
        tries.push(key);
        return Promise.reject(new KubeError('PATCH x', { status: 500, retryAfterMs: 300 }));
      },
      onError: () => undefined,
    });
    for (const key of ['a', 'b']) reconciler.enqueue(key);
    await wait(50);
    expect(tries).toEqual(['a', 'b']);
  });
});
