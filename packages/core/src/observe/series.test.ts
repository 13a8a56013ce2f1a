import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from '@jest/globals';
import { createMetrics } from './metrics.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function heapUsed(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test('a million different values are at most 2,000 series and little memory', () => {
  const metrics = createMetrics({ processFigures: false });
  const counter = metrics.counter('requests_total', 'Requests.', ['path', 'code']);
  const histogram = metrics.histogram('bytes', 'Bytes.', ['path'], [1, 10]);
  for (let at = 0; at < 5_000; at += 1) {
    counter.inc({ path: `/${at}`, code: '200' });
    histogram.child({ path: `/${at}` }).observe(1);
  }
  const before = heapUsed();
  for (let at = 0; at < 1_000_000; at += 1) counter.inc({ path: `/${at}`, code: '200' });
  expect(counter.series).toBe(2000);
  expect(histogram.series).toBe(2000);
  expect(heapUsed() - before).toBeLessThan(8 * 1024 * 1024);
});

test('what is beyond the bound is counted as overflow', async () => {
  const metrics = createMetrics({ processFigures: false, maxSeries: 3 });
  const counter = metrics.counter('requests_total', 'Requests.', ['path']);
  for (let at = 0; at < 10; at += 1) counter.inc({ path: `/${at}` });
  expect((await metrics.render()).trim().split('\n')).toEqual([
    '# HELP requests_total Requests.',
    '# TYPE requests_total counter',
    'requests_total{path="/0"} 1',
    'requests_total{path="/1"} 1',
    'requests_total{path="overflow"} 8',
  ]);
});

test('series of one metric may have labels more and less than declared', async () => {
  const metrics = createMetrics({ processFigures: false });
  const counter = metrics.counter<string>('requests_total', 'Requests.', ['path', 'code']);
  counter.child({ path: '/a', code: '200' }).inc();
  counter.child({ path: '/a' }).inc(2);
  counter.child({ path: '/a', tenant: 'a"\n\\' }).inc(3);
  counter.child({ tenant: 'a"\n\\', path: '/a' }).inc(4);
  expect((await metrics.render()).trim().split('\n').slice(2)).toEqual([
    'requests_total{path="/a",code="200"} 1',
    'requests_total{path="/a"} 2',
    'requests_total{path="/a",tenant="a\\"\\n\\\\"} 7',
  ]);
});

test('a histogram is cumulative', async () => {
  const metrics = createMetrics({ processFigures: false });
  const series = metrics.histogram('bytes', 'Bytes.', ['of'], [1, 10]).child({ of: 'a' });
  for (const value of [0, 1, 5, 100]) series.observe(value);
  expect((await metrics.render()).trim().split('\n').slice(2)).toEqual([
    'bytes_bucket{le="1",of="a"} 2',
    'bytes_bucket{le="10",of="a"} 3',
    'bytes_bucket{le="+Inf",of="a"} 4',
    'bytes_sum{of="a"} 106',
    'bytes_count{of="a"} 4',
  ]);
});
