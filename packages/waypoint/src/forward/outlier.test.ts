import { describe, expect, test } from '@jest/globals';
import { OutlierDetector } from './outlier.ts';

const settings = {
  consecutive5xx: 3,
  consecutiveGatewayErrors: 0,
  consecutiveLocalOrigin: 2,
  splitExternalLocalOrigin: false,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionPercent: 50,
  minHealthPercent: 0,
};

type Outcome = Parameters<OutlierDetector['report']>[1];

function told(
  detector: OutlierDetector,
  outcomes: readonly Outcome[],
  { id = 'a', nowMs = 0, total = 4 } = {},
): (string | undefined)[] {
  return outcomes.map((outcome) => detector.report(id, outcome, nowMs, total)?.reason);
}

test('as many errors in a row as told take it out', () => {
  const detector = new OutlierDetector(settings);
  expect(told(detector, ['5xx', 'gateway-error', '5xx'])).toEqual([
    undefined,
    undefined,
    'consecutive_5xx',
  ]);
  expect(detector.isEjected('a')).toBe(true);
  expect(detector.isEjected('b')).toBe(false);
});

test('a success in between begins anew', () => {
  const detector = new OutlierDetector(settings);
  const outcomes: Outcome[] = ['5xx', '5xx', 'success', '5xx', '5xx'];
  expect(told(detector, outcomes).filter(Boolean)).toEqual([]);
});

test('gateway errors are counted apart, and other errors end their row', () => {
  const detector = new OutlierDetector({
    ...settings,
    consecutive5xx: 0,
    consecutiveGatewayErrors: 2,
  });
  const outcomes: Outcome[] = ['gateway-error', '5xx', 'gateway-error', 'local-origin'];
  expect(told(detector, outcomes).at(-1)).toBe('consecutive_gateway_failure');
  expect(told(detector, outcomes).slice(0, 3).filter(Boolean)).toEqual([]);
});

describe('local and external errors apart', () => {
  test('each has its own row', () => {
    const detector = new OutlierDetector({ ...settings, splitExternalLocalOrigin: true });
    expect(told(detector, ['local-origin', '5xx', 'local-origin']).filter(Boolean)).toEqual([]);
    expect(told(detector, ['local-origin'])).toEqual(['consecutive_local_origin_failure']);
  });

  test('0 turns that one off', () => {
    const detector = new OutlierDetector({
      ...settings,
      splitExternalLocalOrigin: true,
      consecutiveLocalOrigin: 0,
    });
    const outcomes = Array.from({ length: 20 }, (): Outcome => 'local-origin');
    expect(told(detector, outcomes).filter(Boolean)).toEqual([]);
  });
});

describe('how long', () => {
  const fail = (detector: OutlierDetector, nowMs: number): number | undefined => {
    const reports = [0, 1, 2].map(() => detector.report('a', '5xx', nowMs, 4)?.forMs);
    return reports.find((one) => one !== undefined);
  };

  test('the base time, twice it the second time, and it comes back when that is over', () => {
    const detector = new OutlierDetector(settings);
    expect(fail(detector, 0)).toBe(30_000);
    expect(detector.nextReturnMs).toBe(30_000);
    expect(detector.release(29_999)).toEqual([]);
    expect(detector.release(30_000)).toEqual(['a']);
    expect(detector.isEjected('a')).toBe(false);
    expect(fail(detector, 31_000)).toBe(60_000);
    detector.release(91_000);
    expect(fail(detector, 92_000)).toBe(90_000);
  });

  test('each interval that it stays in is worth one ejection', () => {
    const detector = new OutlierDetector(settings);
    fail(detector, 0);
    detector.release(30_000);
    fail(detector, 31_000);
    detector.release(91_000);
    expect(fail(detector, 91_000 + 25_000)).toBe(30_000);
  });

  test('five minutes at most, or the base time where that is longer', () => {
    const detector = new OutlierDetector({ ...settings, baseEjectionMs: 200_000 });
    fail(detector, 0);
    detector.release(200_000);
    expect(fail(detector, 200_001)).toBe(300_000);
    const long = new OutlierDetector({ ...settings, baseEjectionMs: 900_000 });
    expect(fail(long, 0)).toBe(900_000);
  });
});

describe('how many', () => {
  test('never more than the percentage', () => {
    const detector = new OutlierDetector(settings);
    for (const id of ['a', 'b', 'c', 'd']) told(detector, ['5xx', '5xx', '5xx'], { id });
    expect(detector.ejected).toBe(2);
  });

  test('one of few nevertheless, and none at 0', () => {
    const few = new OutlierDetector({ ...settings, maxEjectionPercent: 10 });
    for (const id of ['a', 'b']) told(few, ['5xx', '5xx', '5xx'], { id, total: 2 });
    expect(few.ejected).toBe(1);
    const none = new OutlierDetector({ ...settings, maxEjectionPercent: 0 });
    told(none, ['5xx', '5xx', '5xx']);
    expect(none.ejected).toBe(0);
  });

  test('an endpoint that is gone makes room', () => {
    const detector = new OutlierDetector(settings);
    for (const id of ['a', 'b']) told(detector, ['5xx', '5xx', '5xx'], { id });
    detector.keep(new Set(['b', 'c', 'd', 'e']));
    expect(detector.ejected).toBe(1);
    told(detector, ['5xx', '5xx', '5xx'], { id: 'c' });
    expect(detector.ejected).toBe(2);
  });
});
