export interface ListOrder {
  /** What the list holds now, in any order. */
  readonly merged: readonly unknown[];
  /** The order the patch asks for. */
  readonly order: readonly unknown[];
  /** The order before the patch. */
  readonly before: readonly unknown[];
  readonly same: (left: unknown, right: unknown) => boolean;
}

/**
 * Items the patch names in its order, the others in the order they had, and between the two an item stays in front of
 * another where it was in front of it before.
 */
export function mergedOrder({ merged, order, before, same }: ListOrder): unknown[] {
  const indexIn = (list: readonly unknown[], item: unknown): number =>
    list.findIndex((other) => same(other, item));
  const sortedBy = (items: unknown[], list: readonly unknown[]): unknown[] =>
    items
      .map((item) => ({ item, at: indexIn(list, item) }))
      .sort((left, right) => left.at - right.at)
      .map(({ item }) => item);
  const named = sortedBy(
    merged.filter((item) => indexIn(order, item) >= 0),
    order,
  );
  const others = sortedBy(
    merged.filter((item) => indexIn(order, item) < 0),
    before,
  );
  const out: unknown[] = [];
  while (named.length > 0 && others.length > 0) {
    const other = indexIn(before, others[0]);
    const next = indexIn(before, named[0]);
    const otherFirst = other >= 0 && next >= 0 && other < next;
    out.push(otherFirst ? others.shift() : named.shift());
  }
  return [...out, ...named, ...others];
}
