export interface Backoff {
  /** How long to wait before the next try, in milliseconds; grows with every call. */
  nextMs(): number;
  reset(): void;
}

/** Exponential with full jitter above the minimum, so that many clients do not come back at once. */
export function createBackoff(
  minMs: number,
  maxMs: number,
  random: () => number = Math.random,
): Backoff {
  let ceiling = minMs;
  return {
    nextMs() {
      const wait = minMs + random() * (ceiling - minMs);
      ceiling = Math.min(maxMs, ceiling * 2);
      return wait;
    },
    reset() {
      ceiling = minMs;
    },
  };
}
