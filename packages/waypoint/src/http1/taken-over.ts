import type { ByteSink, ByteStream } from '@ambit/core';

/** What is left of a connection once it was changed over: the bytes that came too early, then all that follows. */
export class TakenOver implements ByteStream, ByteSink {
  readonly #stream: ByteStream;
  #sink: ByteSink | undefined;
  #early: Buffer[];
  #ended = false;
  #attaching = false;
  #paused = false;
  #closed: { readonly error: Error | undefined } | undefined;

  constructor(stream: ByteStream, rest: Buffer) {
    this.#stream = stream;
    this.#early = rest.length === 0 ? [] : [rest];
    stream.pause();
  }

  attach(sink: ByteSink): void {
    this.#sink = sink;
    this.#attaching = true;
    for (const chunk of this.#early.splice(0)) sink.data(chunk);
    this.#attaching = false;
    if (this.#ended) sink.end();
    if (this.#closed !== undefined) sink.close(this.#closed.error);
    if (!this.#paused) this.#stream.resume();
  }

  write(chunk: Buffer): boolean {
    return this.#stream.write(chunk);
  }
  pause(): void {
    this.#paused = true;
    this.#stream.pause();
  }
  resume(): void {
    this.#paused = false;
    if (!this.#attaching) this.#stream.resume();
  }
  abort(reason: Error): void {
    this.#stream.abort(reason);
  }

  data(chunk: Buffer): void {
    if (this.#sink === undefined) this.#early.push(chunk);
    else this.#sink.data(chunk);
  }

  /** Of the other side when it comes from the connection, of ours when the proxy calls it: see `finish`. */
  end(): void {
    this.#stream.end();
  }

  finish(): void {
    this.#ended = true;
    this.#sink?.end();
  }

  drain(): void {
    this.#sink?.drain();
  }

  close(error?: Error): void {
    this.#closed = { error };
    this.#sink?.close(error);
  }
}
