import { describe, expect, test } from '@jest/globals';
import { createBackoff } from './backoff.ts';
import { createDrain } from './drain.ts';
import { createReadiness } from './readiness.ts';

describe('drain', () => {
  test('ends as soon as the last holder lets go', async () => {
    const { trigger, watcher } = createDrain();
    const releases = [watcher.hold(), watcher.hold()];
    const drained = trigger.start('graceful', 10_000);
    expect(watcher.draining).toBe(true);
    for (const release of releases) release();
    expect(await drained).toBe(true);
  });

  test('ends at its deadline while somebody holds on', async () => {
    const { trigger, watcher } = createDrain();
    watcher.hold();
    const began = performance.now();
    expect(await trigger.start('graceful', 50)).toBe(false);
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test('a holder that lets go twice counts once', async () => {
    const { trigger, watcher } = createDrain();
    const first = watcher.hold();
    watcher.hold();
    first();
    first();
    expect(await trigger.start('graceful', 20)).toBe(false);
  });

  test('tells each watcher once, and a late one at once; who left is not told', async () => {
    const { trigger, watcher } = createDrain();
    const told: string[] = [];
    watcher.watch((mode) => told.push(`early ${mode}`));
    watcher.watch(() => told.push('left'))();
    await trigger.start('immediate', 0);
    await trigger.start('graceful', 0);
    watcher.watch((mode) => told.push(`late ${mode}`));
    expect(told).toEqual(['early immediate', 'late immediate']);
  });

  test('with nobody at work it is over at once', async () => {
    expect(await createDrain().trigger.start('graceful', 10_000)).toBe(true);
  });
});

describe('readiness', () => {
  test('names what is missing, and is told of once', () => {
    let told = 0;
    const readiness = createReadiness(() => (told += 1));
    const state = readiness.register('state');
    const pods = readiness.register('pods');
    expect(readiness.pending).toEqual(['state', 'pods']);
    state();
    expect(readiness.ready).toBe(false);
    pods();
    pods();
    expect(readiness.ready).toBe(true);
    expect(told).toBe(1);
  });

  test('a task that is added later takes it away again', () => {
    const readiness = createReadiness();
    readiness.register('state')();
    const end = readiness.register('the end');
    expect(readiness.ready).toBe(false);
    end();
    expect(readiness.ready).toBe(true);
  });
});

describe('backoff', () => {
  test('never below its least, never above its most, and back to the least when reset', () => {
    const backoff = createBackoff(100, 1_000);
    let most = 0;
    for (let round = 0; round < 500; round += 1) {
      const wait = backoff.nextMs();
      expect(wait).toBeGreaterThanOrEqual(100);
      expect(wait).toBeLessThanOrEqual(1_000);
      most = Math.max(most, wait);
    }
    expect(most).toBeGreaterThan(500);
    backoff.reset();
    expect(backoff.nextMs()).toBe(100);
  });

  test('doubles its ceiling with every failure', () => {
    const backoff = createBackoff(100, 1_000, () => 1);
    expect(Array.from({ length: 6 }, () => backoff.nextMs())).toEqual([
      100, 200, 400, 800, 1_000, 1_000,
    ]);
  });
});
