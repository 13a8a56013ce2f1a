import { flag, frameType, headerBytes, writeFrameHeader } from './frames.ts';

/** A DATA frame that is not out yet; what follows on its stream is added to it. */
interface DataFrame {
  readonly type: typeof frameType.data;
  readonly stream: number;
  flags: number;
  length: number;
  readonly parts: Buffer[];
}

/** What one write takes at most, so that a burst needs no memory of its own size. */
const maxWriteBytes = 256 * 1024;

/**
 * Frames on their way out. Those of one turn of the event loop leave in one piece, which is one TLS record and one
 * system call where they are small, and what one stream writes in a row is one DATA frame.
 */
export class FrameWriter {
  #frames: (Buffer | DataFrame)[] = [];
  #last: DataFrame | undefined;

  get empty(): boolean {
    return this.#frames.length === 0;
  }

  /** Whole frames, as they are. */
  frame(bytes: Buffer): void {
    this.#frames.push(bytes);
    this.#last = undefined;
  }

  /** Bytes of a stream, at most `maxBytes` of them in a frame; `end` says that they are its last. */
  data(stream: number, part: Buffer, end: boolean, maxBytes: number): void {
    const flags = end ? flag.endStream : 0;
    const last = this.#last;
    if (last?.stream === stream && last.length + part.length <= maxBytes) {
      if (part.length > 0) last.parts.push(part);
      last.length += part.length;
      last.flags |= flags;
      return;
    }
    this.#last = {
      type: frameType.data,
      stream,
      flags,
      length: part.length,
      parts: part.length > 0 ? [part] : [],
    };
    this.#frames.push(this.#last);
  }

  /** Hands out all there is, in pieces that nobody else has. */
  take(write: (bytes: Buffer) => void): void {
    const frames = this.#frames;
    this.#frames = [];
    this.#last = undefined;
    for (let from = 0; from < frames.length;) {
      let to = from;
      let bytes = 0;
      do bytes += sizeOf(frames[to++]);
      while (to < frames.length && bytes + sizeOf(frames[to]) <= maxWriteBytes);
      write(joined(frames, from, to, bytes));
      from = to;
    }
  }
}

function sizeOf(frame: Buffer | DataFrame | undefined): number {
  if (frame === undefined) return 0;
  return Buffer.isBuffer(frame) ? frame.length : headerBytes + frame.length;
}

function joined(
  frames: readonly (Buffer | DataFrame)[],
  from: number,
  to: number,
  bytes: number,
): Buffer {
  const whole = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (let index = from; index < to; index += 1) {
    const frame = frames[index];
    if (frame === undefined) continue;
    if (Buffer.isBuffer(frame)) {
      at += frame.copy(whole, at);
      continue;
    }
    at = writeFrameHeader(whole, at, frame);
    for (const part of frame.parts) at += part.copy(whole, at);
  }
  return whole;
}
