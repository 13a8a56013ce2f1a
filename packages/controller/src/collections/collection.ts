import type { Dependant, Readable } from './edges.ts';
import { Edges } from './edges.ts';

/** Values of one kind by key, and by the keys of any index. Reading one is how a derived value depends on it. */
export interface ReadableCollection<V> {
  readonly name: string;
  get(key: string): V | undefined;
  /** The values under one key of an index, in the order of their own keys. */
  find(index: string, value: string): readonly V[];
  entries(): IterableIterator<[string, V]>;
  readonly size: number;
  /** Called for every changed key, with undefined when the value went. */
  onChange(listener: (key: string, value: V | undefined) => void): void;
}

export type IndexKeys<V> = Readonly<Record<string, (value: V, key: string) => readonly string[]>>;

/**
 * A collection that remembers who read what. A read through `track` makes an edge from the key, or the index
 * entry, to the reader; a change follows the edges and nothing else.
 */
export class Collection<V> implements ReadableCollection<V>, Readable<string> {
  readonly name: string;
  readonly #indexKeys: IndexKeys<V>;
  readonly #values = new Map<string, V>();
  readonly #indexes = new Map<string, Map<string, Set<string>>>();
  readonly #edges = new Edges();
  readonly #listeners: ((key: string, value: V | undefined) => void)[] = [];

  constructor(name: string, indexKeys: IndexKeys<V> = {}) {
    this.name = name;
    this.#indexKeys = indexKeys;
    for (const index of Object.keys(indexKeys)) this.#indexes.set(index, new Map());
  }

  get size(): number {
    return this.#values.size;
  }

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  find(index: string, value: string): readonly V[] {
    const keys = this.#index(index).get(value);
    if (keys === undefined) return [];
    const found: V[] = [];
    for (const key of [...keys].sort()) {
      const one = this.#values.get(key);
      if (one !== undefined) found.push(one);
    }
    return found;
  }

  /** Whether any value under one key of an index passes a test; in no order, and not one further than that. */
  some(index: string, value: string, test: (one: V) => boolean): boolean {
    for (const key of this.#index(index).get(value) ?? []) {
      const one = this.#values.get(key);
      if (one !== undefined && test(one)) return true;
    }
    return false;
  }

  entries(): IterableIterator<[string, V]> {
    return this.#values.entries();
  }

  /** Called for every changed key, with undefined when the value went. */
  onChange(listener: (key: string, value: V | undefined) => void): void {
    this.#listeners.push(listener);
  }

  set(key: string, value: V): void {
    const before = this.#values.get(key);
    if (before === value) return;
    this.#values.set(key, value);
    this.#changed(key, before, value);
  }

  delete(key: string): void {
    const before = this.#values.get(key);
    if (before === undefined) return;
    this.#values.delete(key);
    this.#changed(key, before, undefined);
  }

  /** Notes that `reader` read one edge of this collection. False when that was known. */
  track(edge: string, reader: Dependant): boolean {
    return this.#edges.track(edge, reader);
  }

  untrack(edge: string, reader: Dependant): void {
    this.#edges.untrack(edge, reader);
  }

  #index(name: string): Map<string, Set<string>> {
    const index = this.#indexes.get(name);
    if (index === undefined) throw new TypeError(`collection ${this.name} has no index ${name}`);
    return index;
  }

  #changed(key: string, before: V | undefined, after: V | undefined): void {
    const edges = new Set([keyEdge(key)]);
    for (const [name, keysOf] of Object.entries(this.#indexKeys)) {
      const index = this.#index(name);
      for (const value of before === undefined ? [] : keysOf(before, key)) {
        edges.add(indexEdge(name, value));
        const keys = index.get(value);
        keys?.delete(key);
        if (keys?.size === 0) index.delete(value);
      }
      for (const value of after === undefined ? [] : keysOf(after, key)) {
        edges.add(indexEdge(name, value));
        const keys = index.get(value);
        if (keys === undefined) index.set(value, new Set([key]));
        else keys.add(key);
      }
    }
    for (const edge of edges) this.#edges.invalidate(edge);
    for (const listener of this.#listeners) listener(key, after);
  }
}

export function keyEdge(key: string): string {
  return `=${key}`;
}

export function indexEdge(index: string, value: string): string {
  return `${index}=${value}`;
}
