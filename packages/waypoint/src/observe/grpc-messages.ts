const prefixBytes = 5;

/** Counts the messages of a gRPC stream by their prefixes as the bytes go by; it keeps none of them. */
export class GrpcMessages {
  count = 0;
  /** Bytes of the current message that are still to come. */
  #left = 0;
  /** Of the current prefix: how many bytes were seen, and the length they spell so far. */
  #prefix = 0;
  #length = 0;

  data(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, chunk.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      if (this.#prefix > 0) this.#length = this.#length * 256 + (chunk[at] ?? 0);
      this.#prefix += 1;
      at += 1;
      if (this.#prefix < prefixBytes) continue;
      this.count += 1;
      this.#left = this.#length;
      this.#prefix = 0;
      this.#length = 0;
    }
  }
}
