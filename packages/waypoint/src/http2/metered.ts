import type { ByteSink, ByteStream } from '@ambit/core';
import type { FrameMeter } from './meter.ts';

/** A stream whose bytes pass the meter before anybody else sees them. */
export class MeteredStream implements ByteStream {
  readonly #stream: ByteStream;
  readonly #meter: FrameMeter;
  readonly #flooded: () => void;

  constructor(stream: ByteStream, meter: FrameMeter, flooded: () => void) {
    this.#stream = stream;
    this.#meter = meter;
    this.#flooded = flooded;
  }

  attach(sink: ByteSink): void {
    this.#stream.attach({
      data: (chunk) => {
        if (this.#meter.take(chunk, performance.now())) sink.data(chunk);
        else this.#flooded();
      },
      end: () => sink.end(),
      drain: () => sink.drain(),
      close: (error) => sink.close(error),
    });
  }

  write(chunk: Buffer): boolean {
    return this.#stream.write(chunk);
  }
  end(): void {
    this.#stream.end();
  }
  abort(reason: Error): void {
    this.#stream.abort(reason);
  }
  pause(): void {
    this.#stream.pause();
  }
  resume(): void {
    this.#stream.resume();
  }
}
