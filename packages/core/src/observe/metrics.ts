import type { MetricConfiguration } from 'prom-client';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

/** Most series that one metric may have; a stranger who varies a label then meets the overflow series. */
const defaultMaxSeries = 2000;

export interface Metrics {
  readonly contentType: string;
  render(): Promise<string>;
  counter<L extends string>(name: string, help: string, labels: readonly L[]): BoundedCounter<L>;
  gauge<L extends string>(name: string, help: string, labels: readonly L[]): Gauge<L>;
  histogram<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    buckets: readonly number[],
  ): Histogram<L>;
}

/** A counter whose series are bounded: beyond the bound every label reads `overflow`. */
export interface BoundedCounter<L extends string> {
  inc(labels: Readonly<Record<L, string>>, by?: number): void;
  /** One series to be kept and counted without looking its labels up again. */
  child(labels: Readonly<Record<L, string>>): { inc(by?: number): void };
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
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    counter<L extends string>(name: string, help: string, labels: readonly L[]) {
      return bounded(
        new Counter<L>({ name, help, labelNames: labels, registers }),
        labels,
        maxSeries,
      );
    },
    gauge<L extends string>(name: string, help: string, labels: readonly L[]) {
      return new Gauge<L>({ name, help, labelNames: labels, registers });
    },
    histogram<L extends string>(
      name: string,
      help: string,
      labels: readonly L[],
      buckets: readonly number[],
    ) {
      const configuration: MetricConfiguration<L> & { buckets: number[] } = {
        name,
        help,
        labelNames: [...labels],
        registers,
        buckets: [...buckets],
      };
      return new Histogram<L>(configuration);
    },
  };
}

function bounded<L extends string>(
  counter: Counter<L>,
  labels: readonly L[],
  maxSeries: number,
): BoundedCounter<L> {
  const known = new Map<string, { inc(by?: number): void }>();
  const overflow = Object.fromEntries(labels.map((label) => [label, 'overflow'])) as Record<
    L,
    string
  >;
  const child = (values: Readonly<Record<L, string>>): { inc(by?: number): void } => {
    const key = labels.map((label) => values[label]).join('\u0000');
    let series = known.get(key);
    if (series === undefined) {
      series = known.size < maxSeries ? counter.labels(values) : counter.labels(overflow);
      if (known.size < maxSeries) known.set(key, series);
    }
    return series;
  };
  return {
    inc: (values, by = 1) => child(values).inc(by),
    child,
    get series() {
      return known.size;
    },
  };
}
