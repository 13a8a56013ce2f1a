/**
 * One timer for a connection whose deadlines move all the time: moving one costs no look at the clock. They are looked
 * at now and then, so what is late is found at most two periods late, and never early, nor before what had arrived by
 * then was read: a process that got no time runs its timers first and its sockets after.
 */
export class Deadline {
  readonly #passed: () => void;
  readonly #timer: NodeJS.Timeout;
  /** From the next look on. */
  #moved: number | undefined;
  #at = Number.POSITIVE_INFINITY;
  #over: NodeJS.Immediate | undefined;

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
    clearImmediate(this.#over);
  }

  #look(): void {
    const now = performance.now();
    if (this.#moved !== undefined) {
      this.#at = now + this.#moved;
      this.#moved = undefined;
    }
    if (now < this.#at) return;
    this.#over = setImmediate(() => {
      if (this.#moved !== undefined || now < this.#at) return;
      this.clear();
      this.#passed();
    });
  }
}
