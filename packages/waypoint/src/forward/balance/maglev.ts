import { hashOf } from './hash.ts';
import type { HashTable, Host } from './host.ts';

/**
 * Google's Maglev table: every host fills the places of its own permutation in turn, so that shares are as even as can be
 * and a look-up is one index. Its size is the next prime, because otherwise permutations would not reach every place.
 */
export class MaglevTable<H extends Host> implements HashTable<H> {
  readonly #hosts: readonly H[];
  readonly #table: Uint32Array;

  constructor(hosts: readonly H[], size: number) {
    // In order of their names: who is listed first must not change the table.
    this.#hosts = [...hosts].sort((left, right) => (left.id < right.id ? -1 : 1));
    this.#table = filled(this.#hosts, primeFrom(size));
  }

  pick(hash: number, exclude: ReadonlySet<string>): H | undefined {
    const size = this.#table.length;
    if (this.#hosts.length === 0) return undefined;
    const start = hash % size;
    for (let step = 0; step < size; step += 1) {
      const host = this.#hosts[this.#table[(start + step) % size] ?? 0];
      if (host === undefined || exclude.size === 0 || !exclude.has(host.id)) return host;
    }
    return this.#hosts[this.#table[start] ?? 0];
  }
}

const free = 0xffffffff;

function primeFrom(size: number): number {
  let candidate = Math.max(3, Math.floor(size));
  while (!isPrime(candidate)) candidate += 1;
  return candidate;
}

function isPrime(value: number): boolean {
  for (let divisor = 2; divisor * divisor <= value; divisor += 1) {
    if (value % divisor === 0) return false;
  }
  return true;
}

function filled(hosts: readonly Host[], size: number): Uint32Array {
  const table = new Uint32Array(size).fill(free);
  if (hosts.length === 0) return table;
  const heaviest = Math.max(...hosts.map(({ weight }) => weight));
  const entries = hosts.map(({ id, weight }) => ({
    next: hashOf(id) % size,
    skip: (hashOf(id, 0x5bd1e995) % (size - 1)) + 1,
    share: weight / heaviest,
    taken: 0,
  }));
  let left = size;
  for (let round = 1; ; round += 1) {
    for (const [index, entry] of entries.entries()) {
      // A lighter host passes some of its turns.
      if (entry.taken >= round * entry.share) continue;
      while (table[entry.next] !== free) entry.next = (entry.next + entry.skip) % size;
      table[entry.next] = index;
      entry.taken += 1;
      left -= 1;
      if (left === 0) return table;
    }
  }
}
