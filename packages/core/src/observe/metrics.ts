import type { Metric } from 'prom-client';
import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import type { CounterSeries, HistogramSeries, Labels } from './series.ts';
import { Count, Distribution, SeriesSet, exposed } from './series.ts';
import type { Exposed } from './series.ts';

/** Most series that one metric may have; a stranger who varies a label then meets the overflow series. */
const defaultMaxSeries = 2000;

export interface Metrics {
  readonly contentType: string;
  render(): Promise<string>;
  counter<L extends string>(name: string, help: string, labels: readonly L[]): BoundedCounter<L>;
  gauge<L extends string>(name: string, help: string, labels: readonly L[]): Gauge<L>;
  histogram(
    name: string,
    help: string,
    labels: readonly string[],
    buckets: readonly number[],
  ): BoundedHistogram;
}

/** A counter whose series are bounded: beyond the bound every label reads `overflow`. */
export interface BoundedCounter<L extends string> {
  inc(labels: Readonly<Record<L, string>>, by?: number): void;
  /** One series to be kept and counted without looking its labels up again; its labels may be others than declared. */
  child(labels: Labels): CounterSeries;
  readonly series: number;
}

/** Bounded like a counter. */
export interface BoundedHistogram {
  child(labels: Labels): HistogramSeries;
  readonly series: number;
}

/** A registry of its own for each program (and each test), with the process's figures. */
export function createMetrics(options: {
  readonly processFigures: boolean;
  readonly maxSeries?: number;
}): Metrics {
  const registry = new Registry();
  if (options.processFigures) collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const maxSeries = options.maxSeries ?? defaultMaxSeries;
  // The registry asks no more of a metric than `exposed` gives.
  const register = (metric: Exposed): void => registry.registerMetric(metric as unknown as Metric);
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    counter<L extends string>(name: string, help: string, labels: readonly L[]) {
      const series = new SeriesSet({ labels, maxSeries, make: (of) => new Count(of) });
      // What has no labels is there from the start.
      if (labels.length === 0) series.child({});
      register(exposed({ name, help, type: 'counter' }, series));
      return {
        inc: (values: Readonly<Record<L, string>>, by = 1) => series.child(values).inc(by),
        child: (values: Labels) => series.child(values),
        get series() {
          return series.all.length;
        },
      };
    },
    gauge<L extends string>(name: string, help: string, labels: readonly L[]) {
      return new Gauge<L>({ name, help, labelNames: labels, registers });
    },
    histogram(name: string, help: string, labels: readonly string[], buckets: readonly number[]) {
      const make = (of: Labels): Distribution => new Distribution(name, of, buckets);
      const series = new SeriesSet({ labels, maxSeries, make });
      register(exposed({ name, help, type: 'histogram' }, series));
      return {
        child: (values: Labels) => series.child(values),
        get series() {
          return series.all.length;
        },
      };
    },
  };
}
