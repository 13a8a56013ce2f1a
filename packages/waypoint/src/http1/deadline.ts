/** One timer for a connection whose deadlines move all the time: they are numbers, looked at now and then. */
export class Deadline {
  readonly #periodMs: number;
  readonly #passed: () => void;
  readonly #timer: NodeJS.Timeout;
  #at = Number.POSITIVE_INFINITY;

  constructor(periodMs: number, passed: () => void) {
    this.#periodMs = periodMs;
    this.#passed = passed;
    this.#timer = setInterval(() => this.#look(), this.#periodMs);
    this.#timer.unref();
  }

  /** A look comes at most one period late. */
  set(ms: number): void {
    this.#at = performance.now() + ms;
  }

  clear(): void {
    this.#at = Number.POSITIVE_INFINITY;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    if (performance.now() < this.#at) return;
    this.clear();
    this.#passed();
  }
}
