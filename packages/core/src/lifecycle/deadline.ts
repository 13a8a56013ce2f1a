/**
 * Calls back once after `ms`, unless it is cleared, and never before what had arrived by then was read. A process that
 * got no time runs its timers first and its sockets after: an answer that lies there would be called missing.
 */
export class Deadline {
  readonly #timer: NodeJS.Timeout;
  #immediate: NodeJS.Immediate | undefined;

  constructor(callback: () => void, ms: number) {
    this.#timer = setTimeout(() => {
      this.#immediate = setImmediate(callback);
    }, ms);
  }

  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }

  unref(): this {
    this.#timer.unref();
    return this;
  }
}
