/** A resource by its key, and since when it is there. */
export interface Aged {
  readonly key: string;
  readonly createdAtMs: number;
}

/** Which of several comes first to what they all claim: the older one, and of equally old ones the first by name. */
export function isOlder(one: Aged, other: Aged): boolean {
  return one.createdAtMs === other.createdAtMs
    ? one.key < other.key
    : one.createdAtMs < other.createdAtMs;
}
