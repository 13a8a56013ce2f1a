/** What was begun, and is closed in the reverse order. */
export class Closing {
  readonly #all: (() => unknown)[] = [];

  add(close: () => unknown): void {
    this.#all.push(close);
  }

  async close(): Promise<void> {
    for (let close = this.#all.pop(); close !== undefined; close = this.#all.pop()) await close();
  }
}
