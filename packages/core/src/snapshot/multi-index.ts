/** Several values under one key, in the order in which they came. */
export class MultiIndex<K, V> {
  readonly #values = new Map<K, Set<V>>();

  add(key: K, value: V): void {
    const values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, new Set([value]));
    else values.add(value);
  }

  delete(key: K, value: V): void {
    const values = this.#values.get(key);
    if (values === undefined) return;
    values.delete(value);
    if (values.size === 0) this.#values.delete(key);
  }

  get(key: K): Iterable<V> {
    return this.#values.get(key) ?? [];
  }

  newestFirst(key: K): V[] {
    const values = this.#values.get(key);
    return values === undefined ? [] : [...values].reverse();
  }
}
