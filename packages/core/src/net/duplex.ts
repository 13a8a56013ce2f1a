import { Duplex } from 'node:stream';
import type { ByteStream } from './byte-stream.ts';

/** A `ByteStream` as Node's own kind of stream, for those parts of Node that want one (TLS and HTTP/2 on top of it). */
export function duplexOf(stream: ByteStream): Duplex {
  return new StreamDuplex(stream);
}

class StreamDuplex extends Duplex {
  readonly #stream: ByteStream;
  #written: (() => void) | undefined;
  #attached = false;
  #closed = false;

  constructor(stream: ByteStream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
  }

  override _read(): void {
    if (this.#attached) {
      this.#stream.resume();
      return;
    }
    this.#attached = true;
    this.#stream.attach({
      data: (chunk) => {
        if (!this.push(chunk)) this.#stream.pause();
      },
      end: () => this.push(null),
      drain: () => this.#drained(),
      close: (error) => {
        this.#closed = true;
        this.#drained();
        if (error === undefined) this.push(null);
        else this.destroy(error);
      },
    });
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    if (this.#closed || this.#stream.write(chunk)) done();
    else this.#written = done;
  }

  override _writev(
    chunks: readonly { readonly chunk: Buffer }[],
    done: (error?: Error) => void,
  ): void {
    let room = true;
    for (const { chunk } of chunks) room = this.#stream.write(chunk);
    if (room || this.#closed) done();
    else this.#written = done;
  }

  override _final(done: (error?: Error) => void): void {
    this.#stream.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const inOrder = error === null && this.readableEnded && this.writableFinished;
    if (!this.#closed && !inOrder)
      this.#stream.abort(error ?? new Error('the stream was destroyed'));
    done(error);
  }

  #drained(): void {
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }
}
