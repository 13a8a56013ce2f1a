import type { Balancing, TrafficSettings } from '@ambit/api';
import type { ChoiceContext, HashTable, Host } from './host.ts';
import { MaglevTable } from './maglev.ts';
import { HashRing } from './ring.ts';

type Hashing = Extract<Balancing, { kind: 'ring-hash' | 'maglev' }>;
type Warmup = NonNullable<TrafficSettings['warmup']>;

export interface ChoiceOptions {
  readonly balancing: Balancing;
  readonly warmup: Warmup | undefined;
  /** Where round robin is; kept by the cluster, so that a new list does not begin at its head again. */
  readonly turn: { next: number };
}

/** One choice among a fixed list of endpoints; made anew when the list changes. */
export class Choice<H extends Host> {
  readonly hosts: readonly H[];
  readonly #options: ChoiceOptions;
  readonly #uneven: boolean;
  /** Until then some endpoint is warming up. */
  readonly #warmAtMs: number;
  readonly #credits = new Map<string, number>();
  #table: HashTable<H> | undefined;

  constructor(hosts: readonly H[], options: ChoiceOptions) {
    this.hosts = hosts;
    this.#options = options;
    this.#uneven = hosts.some(({ weight }) => weight !== hosts[0]?.weight);
    const { warmup, balancing } = options;
    const warms = balancing.kind === 'round-robin' || balancing.kind === 'least-request';
    this.#warmAtMs =
      warmup === undefined || !warms
        ? Number.NEGATIVE_INFINITY
        : Math.max(
            ...hosts.map(({ warmSinceMs }) =>
              warmSinceMs === undefined
                ? Number.NEGATIVE_INFINITY
                : warmSinceMs + warmup.durationMs,
            ),
          );
  }

  pick(context: ChoiceContext): H | undefined {
    const { balancing } = this.#options;
    if (this.hosts.length <= 1) return this.hosts[0];
    if (
      context.hash !== undefined &&
      (balancing.kind === 'ring-hash' || balancing.kind === 'maglev')
    ) {
      return this.#tableOf(balancing).pick(context.hash, context.exclude);
    }
    const hosts = this.#without(context.exclude);
    const weighted = this.#uneven || context.nowMs < this.#warmAtMs;
    switch (balancing.kind) {
      case 'round-robin':
        return weighted ? this.#smooth(hosts, context) : this.#inTurn(hosts);
      case 'least-request':
        return weighted ? this.#lessBusyByWeight(hosts, context) : lessBusy(hosts, context.random);
      default:
        return weighted ? this.#byWeight(hosts, context) : anyOf(hosts, context.random);
    }
  }

  #without(exclude: ReadonlySet<string>): readonly H[] {
    if (exclude.size === 0) return this.hosts;
    const fresh = this.hosts.filter(({ id }) => !exclude.has(id));
    return fresh.length === 0 ? this.hosts : fresh;
  }

  #tableOf(balancing: Hashing): HashTable<H> {
    this.#table ??= tableOf(this.hosts, balancing);
    return this.#table;
  }

  #inTurn(hosts: readonly H[]): H | undefined {
    const { turn } = this.#options;
    turn.next = (turn.next + 1) % hosts.length;
    return hosts[turn.next];
  }

  /** Round robin by weight without bursts: each gains its weight, the richest is taken and pays for all. */
  #smooth(hosts: readonly H[], { nowMs }: ChoiceContext): H | undefined {
    let best: H | undefined;
    let most = Number.NEGATIVE_INFINITY;
    let total = 0;
    for (const host of hosts) {
      const weight = this.#weightOf(host, nowMs);
      const credit = (this.#credits.get(host.id) ?? 0) + weight;
      this.#credits.set(host.id, credit);
      total += weight;
      if (credit <= most) continue;
      most = credit;
      best = host;
    }
    if (best !== undefined) this.#credits.set(best.id, most - total);
    return best;
  }

  #byWeight(hosts: readonly H[], { nowMs, random }: ChoiceContext): H | undefined {
    const weights = hosts.map((host) => this.#weightOf(host, nowMs));
    let at = random() * weights.reduce((sum, weight) => sum + weight, 0);
    for (const [index, host] of hosts.entries()) {
      at -= weights[index] ?? 0;
      if (at < 0) return host;
    }
    return hosts.at(-1);
  }

  #lessBusyByWeight(hosts: readonly H[], context: ChoiceContext): H | undefined {
    const one = this.#byWeight(hosts, context);
    const two = this.#byWeight(hosts, context);
    if (one === undefined || two === undefined) return one ?? two;
    // The draw was by weight already, so two that are idle are equal.
    const load = (host: H): number => host.active / this.#weightOf(host, context.nowMs);
    return load(two) < load(one) ? two : one;
  }

  #weightOf(host: H, nowMs: number): number {
    const { warmup } = this.#options;
    if (warmup === undefined || nowMs >= this.#warmAtMs) return host.weight;
    return host.weight * warmthOf(warmup, host.warmSinceMs, nowMs);
  }
}

function tableOf<H extends Host>(hosts: readonly H[], balancing: Hashing): HashTable<H> {
  return balancing.kind === 'maglev'
    ? new MaglevTable(hosts, balancing.tableSize)
    : new HashRing(hosts, balancing.minimumRingSize);
}

/** How much of its share an endpoint gets while it warms up, from `minimumPercent` to all of it (Envoy's slow start). */
export function warmthOf(warmup: Warmup, sinceMs: number | undefined, nowMs: number): number {
  if (sinceMs === undefined) return 1;
  const part = Math.max(0, nowMs - sinceMs) / warmup.durationMs;
  if (part >= 1) return 1;
  return Math.max(warmup.minimumPercent / 100, part ** (1 / warmup.aggression));
}

function anyOf<H>(hosts: readonly H[], random: () => number): H | undefined {
  return hosts[Math.floor(random() * hosts.length)];
}

/** Two random choices: nearly as even as looking at all of them, at the cost of two. */
function lessBusy<H extends Host>(hosts: readonly H[], random: () => number): H | undefined {
  if (hosts.length <= 1) return hosts[0];
  const first = Math.floor(random() * hosts.length);
  const other = (first + 1 + Math.floor(random() * (hosts.length - 1))) % hosts.length;
  const [one, two] = [hosts[first], hosts[other]];
  if (one === undefined || two === undefined) return one ?? two;
  return two.active < one.active ? two : one;
}
