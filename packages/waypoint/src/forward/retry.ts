import type { RetryPolicy } from '@ambit/api';
import type { HeaderList } from '../http/headers.ts';
import type { Report } from './outlier.ts';

/** How a try ended. */
export type TryOutcome =
  | {
      readonly kind: 'response';
      readonly status: number;
      /** Told in the head: an answer without a body. */
      readonly grpcStatus: number | undefined;
      readonly headers: HeaderList;
    }
  /** A limit of ours refused it; the endpoint was not asked. */
  | { readonly kind: 'overflow' }
  | { readonly kind: 'connect-failure' }
  /** `unprocessed`: the endpoint certainly did not act on it. */
  | { readonly kind: 'reset'; readonly unprocessed: boolean }
  | { readonly kind: 'try-timeout' };

export interface RequestKind {
  readonly idempotent: boolean;
  /** Fields of an answer that the route's owner calls worth a repeat; lower case. */
  readonly retriableHeaders: readonly string[];
}

export function isIdempotent(method: string): boolean {
  switch (method) {
    case 'GET':
    case 'HEAD':
    case 'OPTIONS':
    case 'TRACE':
    case 'PUT':
    case 'DELETE':
      return true;
    default:
      return false;
  }
}

const grpcConditions: ReadonlyMap<number, string> = new Map([
  [1, 'cancelled'],
  [4, 'deadline-exceeded'],
  [8, 'resource-exhausted'],
  [13, 'internal'],
  [14, 'unavailable'],
]);

const onConnectFailure = [
  'connect-failure',
  'reset-before-request',
  'reset',
  '5xx',
  'gateway-error',
];
const onUnprocessed = ['refused-stream', 'reset-before-request', 'reset', '5xx', 'gateway-error'];
const onReset = ['reset', '5xx', 'gateway-error'];

/**
 * Whether the outcome of a try is worth another. What may have reached the application is repeated only when that does
 * no harm, or when its owner said so.
 */
export function isWorthRetry(policy: RetryPolicy, outcome: TryOutcome, kind: RequestKind): boolean {
  const says = (words: readonly string[]): boolean =>
    policy.on.some((word) => words.includes(word));
  const safe = kind.idempotent || policy.evenIfNotIdempotent;
  switch (outcome.kind) {
    case 'overflow':
      return false;
    case 'connect-failure':
      return says(onConnectFailure);
    case 'reset':
      return outcome.unprocessed ? says(onUnprocessed) : safe && says(onReset);
    case 'try-timeout':
      return safe && says(onReset);
    case 'response':
      return safe && isWorthRetryByAnswer(policy, outcome, kind.retriableHeaders);
  }
}

function isWorthRetryByAnswer(
  policy: RetryPolicy,
  { status, grpcStatus, headers }: Extract<TryOutcome, { kind: 'response' }>,
  retriableHeaders: readonly string[],
): boolean {
  const on: readonly string[] = policy.on;
  if (policy.statuses.includes(status)) return true;
  if (on.includes('5xx') && status >= 500) return true;
  if (on.includes('gateway-error') && status >= 502 && status <= 504) return true;
  if (on.includes('retriable-4xx') && status === 409) return true;
  if (on.includes('envoy-ratelimited') && headers.has('x-envoy-ratelimited')) return true;
  if (on.includes('retriable-headers') && retriableHeaders.some((name) => headers.has(name))) {
    return true;
  }
  const word = grpcStatus === undefined ? undefined : grpcConditions.get(grpcStatus);
  return word !== undefined && on.includes(word);
}

/** Envoy's fully jittered exponential backoff before repeat `attempt` (1 for the first). */
export function backoffMs(policy: RetryPolicy, attempt: number, random: () => number): number {
  const ceiling = Math.min(
    policy.maxBackoffMs,
    policy.backoffMs * (2 ** Math.min(attempt, 16) - 1),
  );
  return random() * ceiling;
}

/** gRPC's statuses that say something of the server, as HTTP says it. */
const grpcFailures: ReadonlyMap<number, Report> = new Map([
  [2, '5xx'],
  [4, 'gateway-error'],
  [12, '5xx'],
  [13, '5xx'],
  [14, 'gateway-error'],
  [15, '5xx'],
]);

/** What the outcome of a try says of its endpoint; `later` when a gRPC status is still to come in the trailers. */
export function reportOf(outcome: TryOutcome): Report | 'none' | 'later' {
  switch (outcome.kind) {
    case 'overflow':
      return 'none';
    case 'connect-failure':
    case 'reset':
    case 'try-timeout':
      return 'local-origin';
    case 'response': {
      const { status, grpcStatus, headers } = outcome;
      if (grpcStatus !== undefined) return reportOfGrpc(grpcStatus);
      if (status >= 500) return status >= 502 && status <= 504 ? 'gateway-error' : '5xx';
      const grpc = headers.get('content-type')?.startsWith('application/grpc') === true;
      return grpc ? 'later' : 'success';
    }
  }
}

export function reportOfGrpc(status: number): Report {
  return grpcFailures.get(status) ?? 'success';
}

export function grpcStatusOf(headers: HeaderList | undefined): number | undefined {
  const status = headers?.get('grpc-status');
  return status !== undefined && /^\d{1,2}$/.test(status) ? Number(status) : undefined;
}
