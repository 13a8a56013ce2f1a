/** A token bucket: full after a quiet time, refilled evenly. */
export interface Bucket {
  tokens: number;
  atMs: number;
}

export interface Rate {
  readonly requests: number;
  readonly perMs: number;
  readonly burst: number;
}

export function fullBucket({ burst }: Rate, nowMs: number): Bucket {
  return { tokens: burst, atMs: nowMs };
}

/** Brings a bucket up to now. */
export function refill(bucket: Bucket, { requests, perMs, burst }: Rate, nowMs: number): void {
  const passedMs = Math.max(0, nowMs - bucket.atMs);
  bucket.tokens = Math.min(burst, bucket.tokens + (passedMs * requests) / perMs);
  bucket.atMs = nowMs;
}

/** Milliseconds until there is a token; 0 where there is one. */
export function waitMs({ tokens }: Bucket, { requests, perMs }: Rate): number {
  return tokens >= 1 ? 0 : ((1 - tokens) * perMs) / requests;
}

/** Milliseconds until the bucket is full again. */
export function fullInMs({ tokens }: Bucket, { requests, perMs, burst }: Rate): number {
  return ((burst - tokens) * perMs) / requests;
}
