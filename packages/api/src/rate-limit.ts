import type { Clause, PolicyTarget } from './policy.ts';

/** What requests that share a bucket have in common. */
export type RateLimitKey =
  | {
      readonly kind: 'none' | 'client-identity' | 'source-namespace' | 'remote-address';
    }
  /** Requests without the header share one bucket. */
  | { readonly kind: 'header'; readonly name: string };

/** So many requests in so much time, counted by each waypoint on its own. */
export interface RateLimit {
  readonly name: string;
  /** Requests it is for; of conditions on the request only. */
  readonly when: Clause;
  /** Names of routes, as the access log has them; empty for every one. */
  readonly routes: readonly string[];
  readonly key: RateLimitKey;
  readonly requests: number;
  readonly perMs: number;
  /** How many may come at once after a quiet time. */
  readonly burst: number;
}

/** Limits that waypoints enforce (RateLimitPolicy of ambit.dev). */
export interface RateLimitPolicy {
  readonly name: string;
  readonly namespace: string;
  readonly targets: readonly PolicyTarget[];
  /** Counted, not enforced. */
  readonly dryRun: boolean;
  readonly limits: readonly RateLimit[];
}
