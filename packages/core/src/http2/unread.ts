/** A chunk up to this size is copied, so that it holds neither an object of its own nor what it was read with. */
const smallBytes = 4 * 1024;
const blockBytes = 16 * 1024;

/**
 * What has come on a stream and was not read yet. Windows bound its bytes; a peer that sends them one by one must not
 * make a hundred times as much of them.
 */
export class Unread {
  #chunks: Buffer[] = [];
  /** Where small chunks are put together: the last chunk is the beginning of it. */
  #block: Buffer | undefined;
  #filled = 0;

  isEmpty(): boolean {
    return this.#chunks.length === 0;
  }

  push(chunk: Buffer): void {
    const { length } = chunk;
    // The first one is mostly the only one.
    if (this.isEmpty() || length > smallBytes) {
      this.#block = undefined;
      this.#chunks.push(chunk);
      return;
    }
    const block = this.#block;
    if (block === undefined || this.#filled + length > blockBytes) {
      this.#block = Buffer.allocUnsafeSlow(blockBytes);
      chunk.copy(this.#block);
      this.#filled = length;
      this.#chunks.push(this.#block.subarray(0, length));
      return;
    }
    chunk.copy(block, this.#filled);
    this.#filled += length;
    this.#chunks[this.#chunks.length - 1] = block.subarray(0, this.#filled);
  }

  shift(): Buffer | undefined {
    const chunk = this.#chunks.shift();
    // What was handed out is not written to any more.
    if (this.isEmpty()) this.#block = undefined;
    return chunk;
  }

  /** Drops all of it; how many bytes that were. */
  clear(): number {
    let bytes = 0;
    for (const { length } of this.#chunks.splice(0)) bytes += length;
    this.#block = undefined;
    return bytes;
  }
}
