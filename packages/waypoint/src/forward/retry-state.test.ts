import { expect, test } from '@jest/globals';
import type { TrafficSettings } from '@ambit/api';
import { defaultRetry } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import type { TryOutcome } from './retry.ts';
import { RetryState } from './retry-state.ts';

const settings = { pool: {} } as TrafficSettings;
const cluster = { requests: 1, retries: 0, settings };
const reset = (unprocessed: boolean): TryOutcome => ({ kind: 'reset', unprocessed });

/** What becomes of a request whose idle connection its endpoint cut. */
function verdict(attempts: number, method: string, unprocessed: boolean): string {
  const state = new RetryState({ ...defaultRetry, attempts, on: [] }, cluster, new HeaderList());
  return state.after(reset(unprocessed), method, true, () => 0).kind;
}

test('a connection that was given up is replaced, where nothing is repeated that is not idempotent', () => {
  expect(verdict(2, 'GET', false)).toBe('again');
  expect(verdict(2, 'POST', false)).toBe('over');
});

test('attempts: 0 sends nothing again on which an endpoint may have acted', () => {
  expect(verdict(0, 'GET', false)).toBe('over');
  expect(verdict(0, 'DELETE', false)).toBe('over');
  expect(verdict(0, 'GET', true)).toBe('again');
});
