/** What the peer may still send on a connection. */
export class ReceiveWindow {
  readonly #size: number;
  #left: number;
  #unreturned = 0;

  constructor(bytes: number) {
    this.#size = bytes;
    this.#left = bytes;
  }

  /** False where the peer sent more than it might. */
  take(bytes: number): boolean {
    this.#left -= bytes;
    return this.#left >= 0;
  }

  /** Bytes that are done with; how much to tell the peer of now, mostly nothing. */
  give(bytes: number): number {
    this.#unreturned += bytes;
    if (this.#unreturned < this.#size / 4) return 0;
    const back = this.#unreturned;
    this.#left += back;
    this.#unreturned = 0;
    return back;
  }
}
