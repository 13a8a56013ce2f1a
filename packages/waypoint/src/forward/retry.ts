import type { RetryPolicy } from '@ambit/api';

/** How a try ended. */
export type TryOutcome =
  | { readonly kind: 'response'; readonly status: number; readonly grpcStatus: number | undefined }
  | { readonly kind: 'connect-failure' }
  /** `unprocessed`: the endpoint certainly did not act on it. */
  | { readonly kind: 'reset'; readonly unprocessed: boolean }
  | { readonly kind: 'try-timeout' };

export interface RequestKind {
  readonly idempotent: boolean;
}

const idempotentMethods: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'TRACE',
  'PUT',
  'DELETE',
]);

export function isIdempotent(method: string): boolean {
  return idempotentMethods.has(method);
}

/** What Istio does where nobody has said anything. */
export const defaultRetry: RetryPolicy = {
  attempts: 2,
  on: ['connect-failure', 'refused-stream', 'reset-before-request', 'unavailable', 'cancelled'],
  statuses: [503],
  backoffMs: 25,
  maxBackoffMs: 250,
  remoteLocalities: true,
  ignorePreviousHosts: true,
  evenIfNotIdempotent: false,
};

const grpcConditions: ReadonlyMap<number, string> = new Map([
  [1, 'cancelled'],
  [4, 'deadline-exceeded'],
  [8, 'resource-exhausted'],
  [13, 'internal'],
  [14, 'unavailable'],
]);

/**
 * Whether the outcome of a try is worth another. What may have reached the application is repeated only when that does
 * no harm, or when its owner said so.
 */
export function isWorthRetry(policy: RetryPolicy, outcome: TryOutcome, kind: RequestKind): boolean {
  const on = policy.on as readonly string[];
  const safe = kind.idempotent || policy.evenIfNotIdempotent;
  switch (outcome.kind) {
    case 'connect-failure':
      return on.some((word) => ['connect-failure', '5xx', 'gateway-error', 'reset'].includes(word));
    case 'reset':
      if (outcome.unprocessed) {
        return on.some((word) =>
          ['refused-stream', 'reset-before-request', 'reset', '5xx'].includes(word),
        );
      }
      return safe && on.some((word) => ['reset', '5xx', 'gateway-error'].includes(word));
    case 'try-timeout':
      return safe && on.some((word) => ['5xx', 'gateway-error', 'reset'].includes(word));
    case 'response':
      return safe && isWorthRetryByAnswer(policy, outcome, on);
  }
}

function isWorthRetryByAnswer(
  policy: RetryPolicy,
  { status, grpcStatus }: { readonly status: number; readonly grpcStatus: number | undefined },
  on: readonly string[],
): boolean {
  if (policy.statuses.includes(status)) return true;
  if (on.includes('5xx') && status >= 500) return true;
  if (on.includes('gateway-error') && status >= 502 && status <= 504) return true;
  if (on.includes('retriable-4xx') && status === 409) return true;
  const word = grpcStatus === undefined ? undefined : grpcConditions.get(grpcStatus);
  return word !== undefined && on.includes(word);
}

/** Envoy's fully jittered exponential backoff before try `attempt` (1 for the first repeat). */
export function backoffMs(policy: RetryPolicy, attempt: number, random: () => number): number {
  const ceiling = Math.min(
    policy.maxBackoffMs,
    policy.backoffMs * (2 ** Math.min(attempt, 16) - 1),
  );
  return random() * ceiling;
}
