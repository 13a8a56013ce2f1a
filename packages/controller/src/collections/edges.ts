/** What may depend on something: told that a value or an index entry it read is no longer the same. */
export interface Dependant {
  invalidate(): void;
}

/** Something that can be read, and remembers by whom. `E` is what of it was read. */
export interface Readable<E> {
  untrack(edge: E, reader: Dependant): void;
}

/** Who read what of one thing, by name. */
export class Edges {
  /** Most have one reader; a set for each of those would be most of the controller's memory. */
  readonly #readers = new Map<string, Dependant | Set<Dependant>>();

  /** Notes that `reader` read an edge. False when that was known. */
  track(edge: string, reader: Dependant): boolean {
    const readers = this.#readers.get(edge);
    if (readers === reader) return false;
    if (readers === undefined) this.#readers.set(edge, reader);
    else if (!(readers instanceof Set)) this.#readers.set(edge, new Set([readers, reader]));
    else if (readers.has(reader)) return false;
    else readers.add(reader);
    return true;
  }

  untrack(edge: string, reader: Dependant): void {
    const readers = this.#readers.get(edge);
    if (readers === reader) this.#readers.delete(edge);
    if (!(readers instanceof Set)) return;
    readers.delete(reader);
    if (readers.size === 0) this.#readers.delete(edge);
  }

  invalidate(edge: string): void {
    const readers = this.#readers.get(edge);
    if (readers instanceof Set) for (const reader of readers) reader.invalidate();
    else readers?.invalidate();
  }
}
