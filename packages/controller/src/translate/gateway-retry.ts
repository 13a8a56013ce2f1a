import type { HttpRoute, RetryPolicy } from '@ambit/api';
import { defaultRetry } from '@ambit/api';
import type { RetrySpec, TimeoutsSpec } from '../resources/gateway-api.ts';
import type { Compilation } from './gateway-compilation.ts';

const unitMs: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);
const durationForm = /^(?:\d{1,5}(?:ms|[hms])){1,4}$/;
const defaultBackoffMs = 25;

/** A duration of GEP-2257 in milliseconds; undefined for what is none. */
export function parseGatewayDuration(text: string): number | undefined {
  if (!durationForm.test(text)) return undefined;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[hms])/g)) {
    sum += Number(count) * (unitMs.get(unit ?? '') ?? 0);
  }
  return sum;
}

export interface TryRules {
  readonly timeouts?: TimeoutsSpec;
  readonly retry?: RetrySpec;
}

/** How long a request may take and how often it is tried. A time of zero is none. */
export function compileTries(
  rule: TryRules,
  path: string,
  compilation: Compilation,
): Pick<HttpRoute, 'timeoutMs' | 'retry'> {
  const read = (text: string | undefined, field: string): number => {
    if (text === undefined) return 0;
    const ms = parseGatewayDuration(text);
    if (ms === undefined) {
      compilation.refuse(`${path}.${field}`, 'must be a duration such as 250ms, 10s or 1h30m');
    }
    return ms ?? 0;
  };
  const timeoutMs = read(rule.timeouts?.request, 'timeouts.request');
  const tryMs = read(rule.timeouts?.backendRequest, 'timeouts.backendRequest');
  const backoffMs = read(rule.retry?.backoff, 'retry.backoff');
  if (timeoutMs > 0 && tryMs > timeoutMs) {
    compilation.refuse(
      `${path}.timeouts.backendRequest`,
      'must not be longer than timeouts.request, which holds for all tries together',
    );
  }
  const retry = retryPolicy(rule.retry, tryMs, backoffMs);
  return {
    ...(timeoutMs > 0 ? { timeoutMs } : {}),
    ...(retry === undefined ? {} : { retry }),
  };
}

function retryPolicy(
  spec: RetrySpec | undefined,
  perTryTimeoutMs: number,
  writtenBackoffMs: number,
): RetryPolicy | undefined {
  const timed = perTryTimeoutMs > 0 ? { perTryTimeoutMs } : {};
  if (spec === undefined) return perTryTimeoutMs > 0 ? { ...defaultRetry, ...timed } : undefined;
  const statuses = [...new Set(spec.codes ?? [])];
  const backoffMs = writtenBackoffMs > 0 ? writtenBackoffMs : defaultBackoffMs;
  return {
    attempts: spec.attempts ?? 1,
    ...timed,
    on: [
      ...(statuses.length > 0 ? (['retriable-status-codes'] as const) : []),
      'connect-failure',
      'refused-stream',
      'reset-before-request',
    ],
    statuses,
    backoffMs,
    // Envoy's ratio, which users of the field know.
    maxBackoffMs: backoffMs * 10,
    remoteLocalities: false,
    ignorePreviousHosts: true,
    // Whoever lists statuses says that requests which got them are to be repeated, of whatever method.
    evenIfNotIdempotent: statuses.length > 0,
  };
}
