/** Labels of one series; a metric may have series with more or fewer of them. */
export type Labels = Readonly<Record<string, string>>;

export interface CounterSeries {
  inc(by?: number): void;
}

export interface HistogramSeries {
  observe(value: number): void;
}

interface Sample {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}

/**
 * The series of one metric, made once for each set of labels and then counted without looking anything up. Beyond the
 * bound every label reads `overflow`: a stranger who varies a label costs one series.
 */
export class SeriesSet<S> {
  readonly #make: (labels: Labels) => S;
  readonly #maxSeries: number;
  readonly #declared: readonly string[];
  readonly #known = new Map<string, S>();
  readonly #all: S[] = [];
  #beyond: S | undefined;

  constructor(options: {
    readonly labels: readonly string[];
    readonly maxSeries: number;
    readonly make: (labels: Labels) => S;
  }) {
    this.#make = options.make;
    this.#maxSeries = options.maxSeries;
    this.#declared = options.labels;
  }

  child(labels: Labels): S {
    const key = keyOf(labels, this.#declared);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    // One place is kept for the overflow.
    if (this.#known.size >= this.#maxSeries - 1) {
      this.#beyond ??= this.#add(
        Object.fromEntries(this.#declared.map((label) => [label, 'overflow'])),
      );
      return this.#beyond;
    }
    const made = this.#add(labels);
    this.#known.set(key, made);
    return made;
  }

  get all(): readonly S[] {
    return this.#all;
  }

  #add(labels: Labels): S {
    const made = this.#make(labels);
    this.#all.push(made);
    return made;
  }
}

/** The values of the labels that are declared, in their order, then what else there is. */
function keyOf(labels: Labels, declared: readonly string[]): string {
  let key = '';
  let found = 0;
  for (const name of declared) {
    const value = labels[name];
    if (value !== undefined) found += 1;
    key += value === undefined ? '\u0001' : `${value}\u0000`;
  }
  const names = Object.keys(labels);
  if (names.length === found) return key;
  const more = names.filter((name) => !declared.includes(name)).sort();
  return more.reduce((sum, name) => `${sum}${name}\u0000${labels[name] ?? ''}\u0000`, key);
}

export class Count implements CounterSeries {
  readonly labels: Labels;
  value = 0;

  constructor(labels: Labels) {
    this.labels = labels;
  }

  inc(by = 1): void {
    this.value += by;
  }

  samples(): Sample[] {
    return [{ labels: this.labels, value: this.value }];
  }
}

export class Distribution implements HistogramSeries {
  readonly #name: string;
  readonly #labels: Labels;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  constructor(name: string, labels: Labels, bounds: readonly number[]) {
    this.#name = name;
    this.#labels = labels;
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.#sum += value;
    this.#count += 1;
    const bounds = this.#bounds;
    for (let at = 0; at < bounds.length; at += 1) {
      if (value > (bounds[at] ?? 0)) continue;
      this.#counts[at] = (this.#counts[at] ?? 0) + 1;
      return;
    }
  }

  samples(): Sample[] {
    const named = (suffix: string, value: number, more: Labels = {}): Sample => ({
      metricName: `${this.#name}_${suffix}`,
      labels: { ...more, ...this.#labels },
      value,
    });
    let sum = 0;
    const buckets = this.#bounds.map((bound, at) => {
      sum += this.#counts[at] ?? 0;
      return named('bucket', sum, { le: String(bound) });
    });
    return [
      ...buckets,
      named('bucket', this.#count, { le: '+Inf' }),
      named('sum', this.#sum),
      named('count', this.#count),
    ];
  }
}

/** What a registry of prom-client asks of a metric. */
export interface Exposed {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'histogram';
  readonly aggregator: string;
  get(): Promise<Omit<Exposed, 'get'> & { readonly values: readonly Sample[] }>;
}

export function exposed(
  { name, help, type }: Pick<Exposed, 'name' | 'help' | 'type'>,
  series: SeriesSet<{ samples(): Sample[] }>,
): Exposed {
  const about = { name, help, type, aggregator: 'sum' };
  return {
    ...about,
    get: () => Promise.resolve({ ...about, values: series.all.flatMap((one) => one.samples()) }),
  };
}
