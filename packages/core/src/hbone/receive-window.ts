/** What the peer may still send on a connection. */
export class ReceiveWindow {
  readonly #size: number;
  #left: number;
  #unreturned = 0;

  constructor(bytes: number) {
    this.#size = bytes;
    this.#left = bytes;
  }

  /** How much to give back now, mostly nothing; undefined where the peer sent more than it might. */
  take(bytes: number): number | undefined {
    this.#left -= bytes;
    if (this.#left < 0) return undefined;
    this.#unreturned += bytes;
    if (this.#unreturned < this.#size / 4) return 0;
    const back = this.#unreturned;
    this.#left += back;
    this.#unreturned = 0;
    return back;
  }
}
