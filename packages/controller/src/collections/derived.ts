import type { Aged } from '../translate/age.ts';
import type { Collection, IndexKeys } from './collection.ts';
import { indexEdge, keyEdge, Collection as OutputCollection } from './collection.ts';
import type { Dependant, Readable } from './edges.ts';
import type { Matches } from './matches.ts';
import type { Oldest } from './oldest.ts';

/** How a derived value reads other collections: every read is a dependency. */
export interface Reader {
  get<V>(collection: Collection<V>, key: string): V | undefined;
  find<V>(collection: Collection<V>, index: string, value: string): readonly V[];
  /** The values of a scope that match; a change of any other is none of the reader's. */
  matching<V, P>(matches: Matches<V, P>, scope: string, what: P): readonly V[];
  /** The oldest that claims something, or that does so besides `except`; a change of any other is none of the reader's. */
  oldest<V>(oldest: Oldest<V>, claim: string, except?: string): Aged | undefined;
}

/** Reads once and depends on nothing: for what is not kept. */
export const once: Reader = {
  get: (collection, key) => collection.get(key),
  find: (collection, index, value) => collection.find(index, value),
  matching: (matches, scope, what) => matches.find(scope, what),
  oldest: (oldest, claim, except) => oldest.of(claim, except),
};

export interface DerivedOptions<P, V> {
  readonly name: string;
  readonly primary: Collection<P>;
  readonly indexes?: IndexKeys<V>;
  /** Pure: the values that one primary value gives, by their keys, which no other primary value gives. */
  readonly derive: (value: P, key: string, read: Reader) => ReadonlyMap<string, V>;
  /** True when nothing that depends on the value has to know of the change. */
  readonly equal: (left: V, right: V) => boolean;
}

/** Derived collections in the order of their making, which is an order in which they can be brought up to date. */
export class Graph {
  readonly #stages: { flush(): void }[] = [];

  derive<P, V>(options: DerivedOptions<P, V>): Derived<P, V> {
    const derived = new Derived(options);
    this.#stages.push(derived);
    return derived;
  }

  /** Recomputes what changed, once each. */
  flush(): void {
    for (const stage of this.#stages) stage.flush();
  }
}

/** Takes a collection under a name that figures tell, and gives what is made of it. */
export type Noted = <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;

/** What the values of one primary key were derived from. */
class Readings implements Dependant {
  readonly #dirty: Set<string>;
  readonly #key: string;
  /** What was read, which edge of it, and so on: a mesh has hundreds of thousands of them. */
  #reads: unknown[] = [];

  constructor(dirty: Set<string>, key: string) {
    this.#dirty = dirty;
    this.#key = key;
  }

  get isEmpty(): boolean {
    return this.#reads.length === 0;
  }

  note<E>(read: Readable<E>, edge: E): void {
    this.#reads.push(read, edge);
  }

  invalidate(): void {
    this.#dirty.add(this.#key);
  }

  forget(): void {
    for (let at = 0; at < this.#reads.length; at += 2) {
      (this.#reads[at] as Readable<unknown>).untrack(this.#reads[at + 1], this);
    }
    this.#reads = [];
  }
}

/** A map from a primary collection and whatever else `derive` reads, kept up to date key by key. */
export class Derived<P, V> {
  readonly output: Collection<V>;
  readonly #options: DerivedOptions<P, V>;
  readonly #dirty = new Set<string>();
  readonly #readings = new Map<string, Readings>();
  readonly #outputKeys = new Map<string, readonly string[]>();
  #recomputations = 0;

  constructor(options: DerivedOptions<P, V>) {
    this.#options = options;
    this.output = new OutputCollection<V>(options.name, options.indexes);
    options.primary.onChange((key) => this.#dirty.add(key));
    for (const [key] of options.primary.entries()) this.#dirty.add(key);
  }

  /** How often `derive` has run: a measure of how far a change reached. */
  get recomputations(): number {
    return this.#recomputations;
  }

  flush(): void {
    if (this.#dirty.size === 0) return;
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const key of dirty) this.#recompute(key);
  }

  #recompute(key: string): void {
    this.#readings.get(key)?.forget();
    this.#readings.delete(key);
    const value = this.#options.primary.get(key);
    const next = value === undefined ? new Map<string, V>() : this.#derive(value, key);
    for (const old of this.#outputKeys.get(key) ?? []) {
      if (!next.has(old)) this.output.delete(old);
    }
    if (next.size === 0) this.#outputKeys.delete(key);
    else this.#outputKeys.set(key, [...next.keys()]);
    for (const [outputKey, output] of next) {
      const before = this.output.get(outputKey);
      if (before === undefined || !this.#options.equal(before, output)) {
        this.output.set(outputKey, output);
      }
    }
  }

  #derive(value: P, key: string): ReadonlyMap<string, V> {
    const readings = new Readings(this.#dirty, key);
    this.#recomputations += 1;
    const result = this.#options.derive(value, key, trackedBy(readings));
    if (!readings.isEmpty) this.#readings.set(key, readings);
    return result;
  }
}

function trackedBy(readings: Readings): Reader {
  const note = (collection: Readable<string> & Tracking, edge: string): void => {
    if (collection.track(edge, readings)) readings.note(collection, edge);
  };
  return {
    get: (collection, wanted) => {
      note(collection, keyEdge(wanted));
      return collection.get(wanted);
    },
    find: (collection, index, wanted) => {
      note(collection, indexEdge(index, wanted));
      return collection.find(index, wanted);
    },
    matching: (matches, scope, what) => {
      const [found, asked] = matches.read(scope, what, readings);
      readings.note(matches, asked);
      return found;
    },
    oldest: (oldest, claim, except) =>
      oldest.read(claim, except, readings, (edge) => readings.note(oldest, edge)),
  };
}

interface Tracking {
  track(edge: string, reader: Dependant): boolean;
}
