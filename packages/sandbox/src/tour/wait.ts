import { setTimeout as sleep } from 'node:timers/promises';

const pollMs = 100;

/** Polls until `probe` gives a value; undefined once the deadline has passed. */
export async function eventually<T>(
  probe: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 30_000,
): Promise<T | undefined> {
  const until = performance.now() + deadlineMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (performance.now() > until) return undefined;
    await sleep(pollMs);
  }
}
