/**
 * One timer for a connection whose deadlines move all the time: moving one costs no look at the clock. They are looked
 * at now and then, so what is late is found at most two periods late, and never early.
 */
export class Deadline {
  readonly #passed: () => void;
  readonly #timer: NodeJS.Timeout;
  /** From the next look on. */
  #moved: number | undefined;
  #at = Number.POSITIVE_INFINITY;

  constructor(periodMs: number, passed: () => void) {
    this.#passed = passed;
    this.#timer = setInterval(() => this.#look(), periodMs);
    this.#timer.unref();
  }

  set(ms: number): void {
    this.#moved = ms;
  }

  clear(): void {
    this.#moved = undefined;
    this.#at = Number.POSITIVE_INFINITY;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = performance.now();
    if (this.#moved !== undefined) {
      this.#at = now + this.#moved;
      this.#moved = undefined;
    }
    if (now < this.#at) return;
    this.clear();
    this.#passed();
  }
}
