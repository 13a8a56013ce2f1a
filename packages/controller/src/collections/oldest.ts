import type { Aged } from '../translate/age.ts';
import { isOlder } from '../translate/age.ts';
import type { ReadableCollection } from './collection.ts';
import type { Dependant, Readable } from './edges.ts';
import { Edges } from './edges.ts';

/**
 * Of the values of a collection that claim the same the oldest, which comes before the others. Who asks depends on that
 * one alone: those that come after it may come, change and go.
 */
export class Oldest<V> implements Readable<string> {
  readonly #claimsOf: (value: V) => readonly string[];
  readonly #ageOf: (value: V) => number;
  readonly #known = new Map<string, Claimant>();
  /** Who claims something, in order. */
  readonly #claimed = new Map<string, Aged[]>();
  readonly #edges = new Edges();

  constructor(
    values: ReadableCollection<V>,
    of: {
      readonly claims: (value: V) => readonly string[];
      readonly createdAtMs: (value: V) => number;
    },
  ) {
    this.#claimsOf = of.claims;
    this.#ageOf = of.createdAtMs;
    values.onChange((key, value) => this.#changed(key, value));
    for (const [key, value] of values.entries()) this.#changed(key, value);
  }

  /** The oldest that claims it, or that does so besides `except`. */
  of(claim: string, except?: string): Aged | undefined {
    return this.#among(claim, except)[0];
  }

  /** As `of`; `reader` is told once the answer is another, and `noted` of each edge that is new. */
  read(
    claim: string,
    except: string | undefined,
    reader: Dependant,
    noted: (edge: string) => void,
  ): Aged | undefined {
    const [found, places] = this.#among(claim, except);
    for (let place = 0; place < places; place += 1) {
      const edge = edgeOf(claim, place);
      if (this.#edges.track(edge, reader)) noted(edge);
    }
    return found;
  }

  untrack(edge: string, reader: Dependant): void {
    this.#edges.untrack(edge, reader);
  }

  /** With how many of the first places this depends on. */
  #among(claim: string, except: string | undefined): readonly [Aged | undefined, number] {
    const all = this.#claimed.get(claim) ?? [];
    const [first, second] = all;
    return first !== undefined && first.key === except ? [second, 2] : [first, 1];
  }

  #changed(key: string, value: V | undefined): void {
    const before = this.#known.get(key);
    const after = value === undefined ? undefined : this.#claimantOf(key, value);
    if (after === undefined) this.#known.delete(key);
    else this.#known.set(key, after);
    for (const [claim, one] of onlyOf(before, after)) this.#remove(claim, one);
    for (const [claim, one] of onlyOf(after, before)) this.#insert(claim, one);
  }

  #claimantOf(key: string, value: V): Claimant | undefined {
    const claims = new Set(this.#claimsOf(value));
    if (claims.size === 0) return undefined;
    return { one: { key, createdAtMs: this.#ageOf(value) }, claims };
  }

  #insert(claim: string, one: Aged): void {
    const all = this.#claimed.get(claim) ?? [];
    const at = placeOf(all, one);
    if (all.length === 0) this.#claimed.set(claim, all);
    all.splice(at, 0, one);
    this.#moved(claim, at);
  }

  #remove(claim: string, one: Aged): void {
    const all = this.#claimed.get(claim) ?? [];
    const at = placeOf(all, one);
    all.splice(at, 1);
    if (all.length === 0) this.#claimed.delete(claim);
    this.#moved(claim, at);
  }

  /** What stands at a place is another, and so is what stands behind it. */
  #moved(claim: string, from: number): void {
    for (let place = from; place < 2; place += 1) this.#edges.invalidate(edgeOf(claim, place));
  }
}

interface Claimant {
  readonly one: Aged;
  readonly claims: ReadonlySet<string>;
}

/** What one state of a value claims that another does not, or not at the same age. */
function* onlyOf(
  state: Claimant | undefined,
  other: Claimant | undefined,
): Generator<readonly [string, Aged]> {
  if (state === undefined) return;
  const isSame = other?.one.createdAtMs === state.one.createdAtMs;
  for (const claim of state.claims)
    if (!isSame || !other.claims.has(claim)) yield [claim, state.one];
}

function edgeOf(claim: string, place: number): string {
  return `${place} ${claim}`;
}

/** Where one stands among those that are in order, or would. */
function placeOf(all: readonly Aged[], one: Aged): number {
  let [from, to] = [0, all.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    const other = all[middle];
    if (other !== undefined && isOlder(other, one)) from = middle + 1;
    else to = middle;
  }
  return from;
}
