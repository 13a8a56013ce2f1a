import type { RateLimitPolicy } from '@ambit/api';
import type { WaypointContext } from '../../context.ts';
import type { Limited, OverLimit } from './limiter.ts';

/** Counts a request against the limits that hold for it, and tells of those that are exceeded. */
export function overLimit(
  { limiter, metrics, logger }: WaypointContext,
  policies: readonly RateLimitPolicy[],
  request: Limited,
): OverLimit | undefined {
  const { over, rehearsed } = limiter.take(policies, request);
  for (const { policy, limit } of rehearsed) {
    metrics.rateLimited(nameOf(policy), limit.name, false);
    logger.debug({ policy: nameOf(policy), limit: limit.name }, 'dry run: over the limit');
  }
  if (over !== undefined) metrics.rateLimited(nameOf(over.policy), over.limit.name, true);
  return over;
}

/** For the access log: which limit refused. */
export function detailsOf({ policy, limit }: OverLimit): string {
  return `local_rate_limited[policy=${nameOf(policy)},limit=${limit.name}]`;
}

function nameOf({ namespace, name }: RateLimitPolicy): string {
  return `${namespace}/${name}`;
}
