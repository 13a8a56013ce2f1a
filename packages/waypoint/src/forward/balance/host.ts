import type { Locality } from '@ambit/api';

/** What balancing knows of an endpoint. */
export interface Host {
  readonly id: string;
  readonly locality: Locality;
  /** Share of the traffic relative to the others; 1 where nobody says. */
  readonly weight: number;
  /** Requests in flight. */
  active: number;
  /** When it began to take traffic, on the clock of `performance.now()`; undefined: it was there from the start. */
  warmSinceMs: number | undefined;
}

/** What a choice among endpoints depends on beside them. */
export interface ChoiceContext {
  readonly random: () => number;
  readonly nowMs: number;
  readonly hash: number | undefined;
  /** Endpoints that have had this request already; used again only when there is no other. */
  readonly exclude: ReadonlySet<string>;
}

/** Finds the endpoint of a hash. */
export interface HashTable<H> {
  pick(hash: number, exclude: ReadonlySet<string>): H | undefined;
}
