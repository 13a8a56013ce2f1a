/**
 * Looks at one of several things after the other, each time the timer fires, so that a loss is found in a while and
 * looking costs next to nothing.
 */
export class Patrol<T> {
  readonly #timer: NodeJS.Timeout;
  #seen = new Set<string>();

  constructor(
    everyMs: number,
    candidates: () => readonly T[],
    keyOf: (candidate: T) => string,
    look: (candidate: T) => void,
  ) {
    this.#timer = setInterval(() => {
      const now = candidates();
      let next = now.find((candidate) => !this.#seen.has(keyOf(candidate)));
      if (next === undefined) {
        this.#seen = new Set();
        [next] = now;
      }
      if (next === undefined) return;
      this.#seen.add(keyOf(next));
      look(next);
    }, everyMs);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
