import { describe, expect, test } from '@jest/globals';
import type { RetryCondition, RetryPolicy } from '@ambit/api';
import { defaultRetry } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import type { TryOutcome } from './retry.ts';
import { backoffMs, isWorthRetry, reportOf } from './retry.ts';

function policy(fields: Partial<RetryPolicy>): RetryPolicy {
  return { ...defaultRetry, statuses: [], on: [], ...fields };
}

function answer(
  status: number,
  headers: readonly (readonly [string, string])[] = [],
  grpcStatus?: number,
): TryOutcome {
  return { kind: 'response', status, grpcStatus, headers: HeaderList.of(headers) };
}

const reset: TryOutcome = { kind: 'reset', unprocessed: false };
const refused: TryOutcome = { kind: 'reset', unprocessed: true };
const unreachable: TryOutcome = { kind: 'connect-failure' };
const late: TryOutcome = { kind: 'try-timeout' };
const overflow: TryOutcome = { kind: 'overflow' };
const safe = { idempotent: true, retriableHeaders: [] };

const all = {
  '500': answer(500),
  '502': answer(502),
  '503': answer(503),
  '504': answer(504),
  '409': answer(409),
  '404': answer(404),
  limited: answer(429, [['x-envoy-ratelimited', 'true']]),
  reset,
  refused,
  unreachable,
  late,
  overflow,
};

describe('which outcomes each word covers', () => {
  const broken = ['reset', 'refused', 'unreachable', 'late'];
  const table: readonly (readonly [RetryCondition, readonly string[]])[] = [
    ['5xx', ['500', '502', '503', '504', ...broken]],
    ['gateway-error', ['502', '503', '504', ...broken]],
    ['reset', broken],
    ['reset-before-request', ['refused', 'unreachable']],
    ['connect-failure', ['unreachable']],
    ['refused-stream', ['refused']],
    ['retriable-4xx', ['409']],
    ['envoy-ratelimited', ['limited']],
    ['retriable-status-codes', []],
    ['http3-post-connect-failure', []],
  ];
  test.each(table)('%s', (word, expected) => {
    const covered = Object.entries(all)
      .filter(([, outcome]) => isWorthRetry(policy({ on: [word] }), outcome, safe))
      .map(([name]) => name);
    expect(covered.sort()).toEqual([...expected].sort());
  });

  test.each([
    ['cancelled', 1],
    ['deadline-exceeded', 4],
    ['resource-exhausted', 8],
    ['internal', 13],
    ['unavailable', 14],
  ] as const)('%s is gRPC status %i alone', (word, status) => {
    for (let code = 0; code <= 16; code += 1) {
      const worth = isWorthRetry(policy({ on: [word] }), answer(200, [], code), safe);
      expect([code, worth]).toEqual([code, code === status]);
    }
  });
});

test('statuses by number', () => {
  const how = policy({ on: ['retriable-status-codes'], statuses: [418] });
  expect(isWorthRetry(how, answer(418), safe)).toBe(true);
  expect(isWorthRetry(how, answer(503), safe)).toBe(false);
});

test('fields of the answer, by the names that the owner gave', () => {
  const how = policy({ on: ['retriable-headers'] });
  const outcome = answer(200, [['x-try-again', '1']]);
  expect(isWorthRetry(how, outcome, { ...safe, retriableHeaders: ['x-try-again'] })).toBe(true);
  expect(isWorthRetry(how, outcome, { ...safe, retriableHeaders: ['x-other'] })).toBe(false);
});

describe('what is not idempotent', () => {
  const post = { idempotent: false, retriableHeaders: [] };

  test('is repeated only when it certainly has not reached the application', () => {
    const how = policy({ on: ['5xx', 'reset'], statuses: [503] });
    const covered = Object.entries(all).filter(([, outcome]) => isWorthRetry(how, outcome, post));
    expect(covered.map(([name]) => name).sort()).toEqual(['refused', 'unreachable']);
  });

  test('or when its owner says so', () => {
    const how = policy({ on: ['5xx'], evenIfNotIdempotent: true });
    expect(isWorthRetry(how, answer(500), post)).toBe(true);
    expect(isWorthRetry(how, reset, post)).toBe(true);
  });
});

test('the wait is random below a ceiling that doubles, up to ten times the base', () => {
  const ceilings = [1, 2, 3, 4, 5, 50].map((attempt) => backoffMs(defaultRetry, attempt, () => 1));
  expect(ceilings).toEqual([25, 75, 175, 250, 250, 250]);
  expect(backoffMs(defaultRetry, 3, () => 0)).toBe(0);
});

describe('what an outcome says of the endpoint', () => {
  test.each([
    [answer(200), 'success'],
    [answer(404), 'success'],
    [answer(500), '5xx'],
    [answer(503), 'gateway-error'],
    [unreachable, 'local-origin'],
    [reset, 'local-origin'],
    [late, 'local-origin'],
    [overflow, 'none'],
    [answer(200, [], 14), 'gateway-error'],
    [answer(200, [], 13), '5xx'],
    [answer(200, [], 5), 'success'],
    [answer(200, [['content-type', 'application/grpc']]), 'later'],
  ] as const)('%j: %s', (outcome, report) => {
    expect(reportOf(outcome)).toBe(report);
  });
});
