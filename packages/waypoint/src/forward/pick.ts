import type { Balancing, Locality } from '@ambit/api';

/** What balancing knows of an endpoint. */
export interface Host {
  readonly id: string;
  readonly locality: Locality;
  /** Requests in flight. */
  active: number;
}

/** Chooses by configuration; stateful only for round robin. */
export class Picker {
  #next = 0;

  pick<H extends Host>(
    hosts: readonly H[],
    balancing: Balancing,
    context: {
      readonly random: () => number;
      readonly hash: number | undefined;
      readonly exclude: ReadonlySet<string>;
    },
  ): H | undefined {
    const fresh =
      context.exclude.size === 0 ? hosts : hosts.filter((host) => !context.exclude.has(host.id));
    const choice = fresh.length === 0 ? hosts : fresh;
    if (choice.length <= 1) return choice[0];
    switch (balancing.kind) {
      case 'round-robin':
        this.#next = (this.#next + 1) % choice.length;
        return choice[this.#next];
      case 'least-request':
        return lessBusy(choice, context.random);
      case 'random':
      case 'passthrough':
        return choice[Math.floor(context.random() * choice.length)];
      case 'ring-hash':
      case 'maglev':
        return context.hash === undefined
          ? choice[Math.floor(context.random() * choice.length)]
          : highest(choice, context.hash);
    }
  }
}

/** Two random choices: nearly as even as looking at all of them, at the cost of two. */
function lessBusy<H extends Host>(hosts: readonly H[], random: () => number): H | undefined {
  const first = Math.floor(random() * hosts.length);
  const other = (first + 1 + Math.floor(random() * (hosts.length - 1))) % hosts.length;
  const [one, two] = [hosts[first], hosts[other]];
  if (one === undefined || two === undefined) return one ?? two;
  return two.active < one.active ? two : one;
}

/** Rendezvous: the host whose hash with the key is highest, so that a host that goes moves its own keys only. */
function highest<H extends Host>(hosts: readonly H[], hash: number): H | undefined {
  let best: H | undefined;
  let score = -1;
  for (const host of hosts) {
    const mixed = hashOf(host.id, hash);
    if (mixed > score) {
      score = mixed;
      best = host;
    }
  }
  return best;
}

/** 32 bits of a text (murmur3's body and finish). */
export function hashOf(text: string, seed = 0): number {
  let hash = seed | 0;
  for (let at = 0; at < text.length; at += 1) {
    let word = Math.imul(text.charCodeAt(at), 0xcc9e2d51);
    word = (word << 15) | (word >>> 17);
    hash ^= Math.imul(word, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  hash ^= text.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
