interface Entry<T> {
  readonly value: string;
  /** The longest other value that this one begins with. */
  readonly parent: Entry<T> | undefined;
  readonly exact: T[];
  readonly prefixed: T[];
}

/**
 * Finds what is kept under a text and under every beginning of it. The cost grows with the logarithm of what is kept.
 * A sorted list and not a map: looking a text up in a map that was made a moment ago means to intern it first, which
 * costs more than the comparisons.
 */
export class PrefixIndex<T> {
  readonly #entries: readonly Entry<T>[];

  constructor(
    items: Iterable<{
      readonly value: string;
      readonly kind: 'exact' | 'prefix';
      readonly item: T;
    }>,
  ) {
    const byValue = new Map<string, { exact: T[]; prefixed: T[] }>();
    for (const { value, kind, item } of items) {
      let lists = byValue.get(value);
      if (lists === undefined) byValue.set(value, (lists = { exact: [], prefixed: [] }));
      (kind === 'exact' ? lists.exact : lists.prefixed).push(item);
    }
    const entries: Entry<T>[] = [];
    for (const value of [...byValue.keys()].sort(byCodeUnits)) {
      let parent = entries.at(-1);
      while (parent !== undefined && !value.startsWith(parent.value)) parent = parent.parent;
      entries.push({ value, parent, ...(byValue.get(value) ?? { exact: [], prefixed: [] }) });
    }
    this.#entries = entries;
  }

  /** Each list of items that match, those of the longest text first; within a list in the order in which they came. */
  visit(text: string, see: (items: readonly T[]) => void): void {
    let entry = this.#lastUpTo(text);
    // Whatever is a beginning of the text is one of the last entry's too, or is that entry.
    while (entry !== undefined && !text.startsWith(entry.value)) entry = entry.parent;
    if (entry !== undefined && entry.exact.length > 0 && entry.value.length === text.length) {
      see(entry.exact);
    }
    for (; entry !== undefined; entry = entry.parent) {
      if (entry.prefixed.length > 0) see(entry.prefixed);
    }
  }

  #lastUpTo(text: string): Entry<T> | undefined {
    const entries = this.#entries;
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((entries[middle]?.value ?? '') <= text) low = middle + 1;
      else high = middle;
    }
    return entries[low - 1];
  }
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
