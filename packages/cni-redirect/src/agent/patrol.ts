export interface PatrolPace {
  /** A round takes so long, unless that makes the looks come more or less often than these allow. */
  readonly roundMs: number;
  readonly minMs: number;
  readonly maxMs: number;
}

/**
 * Looks at one of several things after the other, so that a loss is found in a while and looking costs next to nothing,
 * however many there are.
 */
export class Patrol<T> {
  #timer: NodeJS.Timeout | undefined;
  #seen = new Set<string>();

  constructor(
    pace: PatrolPace,
    candidates: () => readonly T[],
    keyOf: (candidate: T) => string,
    look: (candidate: T) => void,
  ) {
    const again = (count: number): void =>
      void (this.#timer = setTimeout(
        () => {
          const now = candidates();
          const next = this.#next(now, keyOf);
          again(now.length);
          if (next !== undefined) look(next);
        },
        waitMs(pace, count),
      ));
    again(0);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #next(now: readonly T[], keyOf: (candidate: T) => string): T | undefined {
    let next = now.find((candidate) => !this.#seen.has(keyOf(candidate)));
    if (next === undefined) {
      this.#seen = new Set();
      [next] = now;
    }
    if (next !== undefined) this.#seen.add(keyOf(next));
    return next;
  }
}

/** How long to wait between two looks at one of so many things. */
export function waitMs({ roundMs, minMs, maxMs }: PatrolPace, count: number): number {
  return Math.min(maxMs, Math.max(minMs, roundMs / Math.max(1, count)));
}
