import { createHash } from 'node:crypto';
import type { RateLimit, RateLimitPolicy } from '@ambit/api';
import type { ConnectionFacts } from '@ambit/core';
import { clauseApplies } from '@ambit/core';
import { BoundedMap } from '../../client/bounded-map.ts';
import type { Bucket } from './bucket.ts';
import { fullBucket, fullInMs, refill, waitMs } from './bucket.ts';

/** A request as limits see it. */
export interface Limited {
  readonly facts: ConnectionFacts;
  readonly route: string;
}

/** Why a request is too much, and what its client is told. */
export interface OverLimit {
  readonly policy: RateLimitPolicy;
  readonly limit: RateLimit;
  readonly fields: readonly (readonly [name: string, value: string])[];
}

export interface Taken {
  /** The first limit that is exceeded, of policies that are enforced. */
  readonly over: OverLimit | undefined;
  /** Limits of policies in dry run that would have refused. */
  readonly rehearsed: readonly Omit<OverLimit, 'fields'>[];
}

/** As many keys as one limit remembers: a stranger who makes up more only makes the oldest forgotten. */
const maxBuckets = 10_000;
const maxLimits = 1_000;
const maxKeyChars = 128;

interface Remembered {
  readonly rate: string;
  readonly buckets: BoundedMap<Bucket>;
}

/** Counts requests against limits, for this proxy alone. */
export class RateLimiter {
  readonly #limits = new BoundedMap<Remembered>(maxLimits);
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Takes from every limit that the request falls under, or from none where one of them is exceeded. */
  take(policies: readonly RateLimitPolicy[], request: Limited): Taken {
    const now = this.#nowMs();
    const enforced: Bucket[] = [];
    const rehearsed: OverLimit[] = [];
    for (const policy of policies) {
      const buckets: Bucket[] = [];
      let over: OverLimit | undefined;
      for (const limit of policy.limits) {
        if (!appliesTo(limit, request)) continue;
        const bucket = this.#bucketOf(policy, limit, request, now);
        refill(bucket, limit, now);
        if (bucket.tokens >= 1) buckets.push(bucket);
        else over ??= { policy, limit, fields: fieldsOf(limit, bucket) };
      }
      if (over !== undefined && !policy.dryRun) return { over, rehearsed };
      if (over !== undefined) rehearsed.push(over);
      // A rehearsal counts what it would have let through, whatever the others say.
      else if (policy.dryRun) for (const bucket of buckets) bucket.tokens -= 1;
      else enforced.push(...buckets);
    }
    for (const bucket of enforced) bucket.tokens -= 1;
    return { over: undefined, rehearsed };
  }

  #bucketOf(policy: RateLimitPolicy, limit: RateLimit, request: Limited, now: number): Bucket {
    const name = `${policy.namespace}/${policy.name}/${limit.name}`;
    const rate = `${limit.requests}/${limit.perMs}/${limit.burst}/${JSON.stringify(limit.key)}`;
    let remembered = this.#limits.get(name);
    // Another rate begins anew; a change of anything else does not.
    if (remembered?.rate !== rate) {
      remembered = { rate, buckets: new BoundedMap(maxBuckets) };
      this.#limits.set(name, remembered);
    }
    const key = keyOf(limit, request);
    let bucket = remembered.buckets.get(key);
    if (bucket === undefined) {
      bucket = fullBucket(limit, now);
      remembered.buckets.set(key, bucket);
    }
    return bucket;
  }
}

function appliesTo({ routes, when }: RateLimit, { route, facts }: Limited): boolean {
  return (routes.length === 0 || routes.includes(route)) && clauseApplies(when, facts);
}

function keyOf({ key }: RateLimit, { facts }: Limited): string {
  switch (key.kind) {
    case 'none':
      return '';
    case 'client-identity':
      return facts.sourceIdentity?.uri ?? '';
    case 'source-namespace':
      return facts.sourceIdentity?.namespace ?? '';
    case 'remote-address':
      return facts.remoteIp ?? facts.sourceIp;
    case 'header': {
      const value = facts.request?.header(key.name).join() ?? '';
      if (value.length <= maxKeyChars) return value;
      return createHash('sha256').update(value).digest('base64');
    }
  }
}

function fieldsOf(limit: RateLimit, bucket: Bucket): OverLimit['fields'] {
  const seconds = (ms: number): string => String(Math.max(1, Math.ceil(ms / 1000)));
  return [
    ['retry-after', seconds(waitMs(bucket, limit))],
    ['x-ratelimit-limit', String(limit.requests)],
    ['x-ratelimit-remaining', '0'],
    ['x-ratelimit-reset', seconds(fullInMs(bucket, limit))],
  ];
}
