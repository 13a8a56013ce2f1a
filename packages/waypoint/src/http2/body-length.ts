/** Counts a body against the length that its head told (RFC 9113 §8.1.1). */
export class BodyLength {
  readonly #expected: number;
  #bytes = 0;

  constructor(expected: number | undefined) {
    this.#expected = expected ?? Number.NaN;
  }

  /** False once there is more than was told. */
  add(bytes: number): boolean {
    this.#bytes += bytes;
    return !(this.#bytes > this.#expected);
  }

  /** True where all that was told has come. */
  get whole(): boolean {
    return Number.isNaN(this.#expected) || this.#bytes === this.#expected;
  }
}
