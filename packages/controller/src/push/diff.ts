import type { Removal, ResourceType, SnapshotUpdate, Upsert } from '@ambit/api';
import { resourceTypes } from '@ambit/api';

/** The versions a proxy holds, by type and name. */
export type Held = ReadonlyMap<ResourceType, ReadonlyMap<string, string>>;

/** What is current; a SnapshotState is one. */
export interface Current {
  resource(type: ResourceType, name: string): Upsert | undefined;
  all(type: ResourceType): ReadonlyMap<string, Upsert>;
}

export interface Difference {
  readonly upserts: readonly Upsert[];
  readonly removals: readonly Removal[];
}

/**
 * Everything in which a proxy differs from what is current. Upserts come in an order in which nothing is named before
 * it is there: a policy stands before the workload it protects.
 */
export function fullDifference(
  held: Held,
  current: Current,
  types: ReadonlySet<ResourceType> = new Set(resourceTypes),
): Difference {
  const upserts: Upsert[] = [];
  const removals: Removal[] = [];
  for (const type of resourceTypes) {
    if (!types.has(type)) continue;
    const versions = held.get(type);
    for (const [name, upsert] of current.all(type)) {
      if (versions?.get(name) !== upsert.version) upserts.push(upsert);
    }
  }
  for (const type of [...resourceTypes].reverse()) {
    for (const name of held.get(type)?.keys() ?? []) {
      if (current.resource(type, name) === undefined) removals.push({ type, name });
    }
  }
  return { upserts, removals };
}

/** As `fullDifference`, for the named resources alone. */
export function namedDifference(
  held: Held,
  current: Current,
  names: ReadonlyMap<ResourceType, ReadonlySet<string>>,
): Difference {
  const upserts: Upsert[] = [];
  const removals: Removal[] = [];
  for (const type of resourceTypes) {
    for (const name of names.get(type) ?? []) {
      const upsert = current.resource(type, name);
      if (upsert !== undefined && held.get(type)?.get(name) !== upsert.version)
        upserts.push(upsert);
    }
  }
  for (const type of [...resourceTypes].reverse()) {
    for (const name of names.get(type) ?? []) {
      const gone = current.resource(type, name) === undefined;
      if (gone && held.get(type)?.has(name) === true) removals.push({ type, name });
    }
  }
  return { upserts, removals };
}

/** One frame's worth of a push, still without its number. */
export type Chunk = Pick<SnapshotUpdate, 'upserts' | 'removals' | 'complete'>;

/** A frame is not made longer than this, unless one resource alone is: many proxies may be sent everything at once. */
const pacedBytes = 512 * 1024;
/** Bytes left for a frame's own fields. */
const envelopeBytes = 1024;

export interface Chunks {
  readonly chunks: readonly Chunk[];
  /** Resources that no frame can carry. */
  readonly tooBig: readonly Upsert[];
}

/**
 * Cuts a difference into frames below a size, in order: upserts first, then what nothing names any more. Only the last
 * is complete.
 */
export function chunked({ upserts, removals }: Difference, maxBytes: number): Chunks {
  const limit = maxBytes - envelopeBytes;
  const chunks: { upserts: Upsert[]; removals: Removal[]; complete: boolean }[] = [];
  const tooBig: Upsert[] = [];
  let chunk = { upserts: new Array<Upsert>(), removals: new Array<Removal>(), complete: false };
  let bytes = 0;
  const room = (needed: number): void => {
    if (bytes === 0 || bytes + needed <= Math.min(limit, pacedBytes)) {
      bytes += needed;
      return;
    }
    chunks.push(chunk);
    chunk = { upserts: [], removals: [], complete: false };
    bytes = needed;
  };
  for (const upsert of upserts) {
    const needed = Buffer.byteLength(JSON.stringify(upsert)) + 1;
    if (needed > limit) {
      tooBig.push(upsert);
      continue;
    }
    room(needed);
    chunk.upserts.push(upsert);
  }
  for (const removal of removals) {
    room(Buffer.byteLength(JSON.stringify(removal)) + 1);
    chunk.removals.push(removal);
  }
  chunk.complete = true;
  chunks.push(chunk);
  return { chunks, tooBig };
}
