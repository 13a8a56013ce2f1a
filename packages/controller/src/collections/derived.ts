import type { Collection, Dependant, IndexKeys } from './collection.ts';
import { indexEdge, keyEdge, Collection as OutputCollection } from './collection.ts';

/** How a derived value reads other collections: every read is a dependency. */
export interface Reader {
  get<V>(collection: Collection<V>, key: string): V | undefined;
  find<V>(collection: Collection<V>, index: string, value: string): readonly V[];
}

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

/** A map from a primary collection and whatever else `derive` reads, kept up to date key by key. */
export class Derived<P, V> implements Dependant {
  readonly output: Collection<V>;
  readonly #options: DerivedOptions<P, V>;
  readonly #dirty = new Set<string>();
  readonly #dependencies = new Map<string, (() => void)[]>();
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

  invalidate(key: string): void {
    this.#dirty.add(key);
  }

  flush(): void {
    if (this.#dirty.size === 0) return;
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const key of dirty) this.#recompute(key);
  }

  #recompute(key: string): void {
    for (const forget of this.#dependencies.get(key) ?? []) forget();
    this.#dependencies.delete(key);
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
    const forgets: (() => void)[] = [];
    this.#recomputations += 1;
    const result = this.#options.derive(value, key, {
      get: (collection, wanted) => {
        forgets.push(collection.track(keyEdge(wanted), this, key));
        return collection.get(wanted);
      },
      find: (collection, index, wanted) => {
        forgets.push(collection.track(indexEdge(index, wanted), this, key));
        return collection.find(index, wanted);
      },
    });
    if (forgets.length > 0) this.#dependencies.set(key, forgets);
    return result;
  }
}
