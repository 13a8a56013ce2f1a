import { hashOf, mixed } from './hash.ts';
import type { HashTable, Host } from './host.ts';

/** A place on the ring and its host fit into one exact double: 32 bits and 21. */
const hostBits = 2 ** 21;

/**
 * Ketama's ring: each host has many places, a hash belongs to the next place clockwise. A host that comes or goes moves
 * its own share of the hashes and nothing else. Places are given by weight.
 */
export class HashRing<H extends Host> implements HashTable<H> {
  readonly #hosts: readonly H[];
  /** Places in order, each with its host in the low bits. */
  readonly #places: Float64Array;

  constructor(hosts: readonly H[], minimumSize: number) {
    this.#hosts = hosts;
    const counts = placesOf(hosts, minimumSize);
    const places = new Float64Array(counts.reduce((sum, count) => sum + count, 0));
    let at = 0;
    for (const [index, { id }] of hosts.entries()) {
      const own = hashOf(id);
      for (let place = 0; place < (counts[index] ?? 0); place += 1) {
        places[at] = mixed(own, place) * hostBits + index;
        at += 1;
      }
    }
    this.#places = places.sort();
  }

  get size(): number {
    return this.#places.length;
  }

  pick(hash: number, exclude: ReadonlySet<string>): H | undefined {
    const size = this.#places.length;
    if (size === 0) return undefined;
    const start = this.#firstFrom(hash * hostBits);
    for (let step = 0; step < size; step += 1) {
      const host = this.#hostAt((start + step) % size);
      if (host === undefined || exclude.size === 0 || !exclude.has(host.id)) return host;
    }
    return this.#hostAt(start % size);
  }

  #hostAt(place: number): H | undefined {
    return this.#hosts[(this.#places[place] ?? 0) % hostBits];
  }

  #firstFrom(value: number): number {
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#places[middle] ?? 0) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** So many places of each host make shares even to a few percent. */
const placesEach = 1024;
/** Beyond that hosts have fewer places each, so that a ring of thousands is made in milliseconds. */
const roomyRing = 2 ** 17;

/**
 * How many places each host has, by weight. The number does not depend on how many hosts there are, but for steps by
 * two: otherwise each change of the list would move places of everybody.
 */
function placesOf(hosts: readonly Host[], minimumSize: number): readonly number[] {
  const count = Math.max(1, hosts.length);
  const total = hosts.reduce((sum, { weight }) => sum + weight, 0);
  const roomy = Math.min(placesEach, 2 ** Math.floor(Math.log2(roomyRing / count)));
  const each = Math.max(1, roomy, 2 ** Math.ceil(Math.log2(minimumSize / count)));
  return hosts.map(({ weight }) => Math.max(1, Math.ceil((each * weight * count) / total)));
}
