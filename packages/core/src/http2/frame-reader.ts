import type { FrameHeader } from './frames.ts';
import {
  errorCode,
  flag,
  frameType,
  headerBytes,
  preface,
  readFrameHeader,
  stripPadding,
} from './frames.ts';
import { maxContinuations } from './limits.ts';

export interface FrameHandlers {
  /** A whole frame other than DATA, HEADERS and CONTINUATION. */
  frame(header: FrameHeader, payload: Buffer): void;
  /** A part of a DATA frame, as it came off the wire; `padding` bytes count for flow control only. */
  data(stream: number, chunk: Buffer, padding: number): void;
  /** A DATA frame is over; `bytes` is what it carried, without padding. */
  dataEnd(stream: number, flags: number, bytes: number): void;
  /** A whole header block. */
  headers(stream: number, block: Buffer, endStream: boolean): void;
  /** Part of a header block is there, the rest is not. */
  headersBegun(): void;
  /** The peer's preface and first SETTINGS have arrived. */
  settled(): void;
  violation(code: number, why: string): void;
}

export interface FrameBounds {
  readonly maxFrameBytes: number;
  readonly maxBlockBytes: number;
}

type State = 'preface' | 'header' | 'payload' | 'data' | 'broken';

const nothing = Buffer.alloc(0);
const noHeader: FrameHeader = { length: 0, type: 0, flags: 0, stream: 0 };

/** Other frames than DATA and header blocks are small; a longer one is somebody's mistake or mischief. */
const maxControlBytes = 16 * 1024;

/** Cuts a byte stream into frames. DATA is handed on as it comes, so a frame of a megabyte needs no buffer. */
export class FrameReader {
  readonly #handlers: FrameHandlers;
  readonly #maxFrameBytes: number;
  readonly #maxBlockBytes: number;
  #state: State;
  #input: Buffer = nothing;
  /** How far the input has been taken. */
  #at = 0;
  #header: FrameHeader = noHeader;
  /** Of a DATA frame: bytes that are still to come, and padding behind them. */
  #left = 0;
  #padding = 0;
  #first = true;
  #block: { stream: number; endStream: boolean; parts: Buffer[]; bytes: number } | undefined;

  constructor(
    expectPreface: boolean,
    { maxFrameBytes, maxBlockBytes }: FrameBounds,
    handlers: FrameHandlers,
  ) {
    this.#state = expectPreface ? 'preface' : 'header';
    this.#maxFrameBytes = maxFrameBytes;
    this.#maxBlockBytes = maxBlockBytes;
    this.#handlers = handlers;
  }

  /** Takes no more: the session is over. */
  stop(): void {
    this.#state = 'broken';
    this.#input = nothing;
    this.#at = 0;
  }

  push(chunk: Buffer): void {
    if (this.#state === 'broken') return;
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    this.#at = 0;
    while (this.#step());
    if (this.#isBroken()) return;
    this.#input = this.#here === 0 ? nothing : this.#input.subarray(this.#at);
  }

  #isBroken(): boolean {
    return this.#state === 'broken';
  }

  /** Bytes that are there and have not been taken. */
  get #here(): number {
    return this.#input.length - this.#at;
  }

  /** Takes one piece off the input; false when it needs more. */
  #step(): boolean {
    switch (this.#state) {
      case 'preface':
        return this.#preface();
      case 'header':
        return this.#frame();
      case 'payload':
        return this.#payload();
      case 'data':
        return this.#data();
      case 'broken':
        return false;
    }
  }

  /** Ends the reading. */
  #violate(code: number, why: string): false {
    this.stop();
    this.#handlers.violation(code, why);
    return false;
  }

  #preface(): boolean {
    const seen = Math.min(this.#input.length, preface.length);
    if (!this.#input.subarray(0, seen).equals(preface.subarray(0, seen))) {
      return this.#violate(errorCode.protocol, 'the client does not begin with the HTTP/2 preface');
    }
    if (seen < preface.length) return false;
    this.#at = preface.length;
    this.#state = 'header';
    return true;
  }

  #frame(): boolean {
    if (this.#here < headerBytes) return false;
    const header = readFrameHeader(this.#input, this.#at);
    const padded = header.type === frameType.data && (header.flags & flag.padded) !== 0;
    // The length of the padding is looked at together with the header.
    if (padded && header.length > 0 && this.#here < headerBytes + 1) return false;
    const why = this.#unfit(header);
    if (why !== undefined) return this.#violate(errorCode.protocol, why);
    this.#header = header;
    this.#at += headerBytes;
    if (header.type === frameType.data) return this.#beginData(header, padded);
    this.#state = 'payload';
    if (header.type === frameType.headers) this.#handlers.headersBegun();
    return true;
  }

  #beginData({ length }: FrameHeader, padded: boolean): boolean {
    this.#state = 'data';
    this.#left = length;
    this.#padding = 0;
    if (!padded) return true;
    const padding = this.#here === 0 ? 0 : (this.#input[this.#at] ?? 0);
    if (length < 1 + padding) {
      return this.#violate(errorCode.protocol, 'more padding than frame');
    }
    this.#left = length - 1 - padding;
    this.#padding = padding + 1;
    this.#at += 1;
    return true;
  }

  #unfit(header: FrameHeader): string | undefined {
    const { type, length, flags } = header;
    if (this.#first) {
      if (type !== frameType.settings || (flags & flag.ack) !== 0) {
        return 'the first frame is not SETTINGS';
      }
      this.#first = false;
      this.#handlers.settled();
    }
    if (length > this.#maxFrameBytes) return 'a frame is larger than allowed';
    return this.#misplaced(header) ?? this.#tooLong(header);
  }

  #misplaced({ type, stream }: FrameHeader): string | undefined {
    const block = this.#block;
    if (block === undefined) {
      if (type === frameType.continuation) return 'CONTINUATION without HEADERS';
    } else if (type !== frameType.continuation || stream !== block.stream) {
      return 'another frame stands inside a header block';
    }
    const ofStream = type === frameType.headers || type === frameType.data;
    return ofStream && stream === 0 ? 'a stream frame on stream 0' : undefined;
  }

  #tooLong({ type, length }: FrameHeader): string | undefined {
    if (type === frameType.data) return undefined;
    const ofBlock = type === frameType.headers || type === frameType.continuation;
    if (ofBlock) return length > this.#maxBlockBytes ? 'a header block is too long' : undefined;
    return length > maxControlBytes ? 'a control frame is too long' : undefined;
  }

  #payload(): boolean {
    const header = this.#header;
    if (this.#here < header.length) return false;
    const payload = this.#input.subarray(this.#at, this.#at + header.length);
    this.#at += header.length;
    this.#state = 'header';
    if (header.type === frameType.headers || header.type === frameType.continuation) {
      return this.#blockPart(header, payload);
    }
    this.#handlers.frame(header, payload);
    return true;
  }

  #blockPart(header: FrameHeader, payload: Buffer): boolean {
    const bare =
      header.type === frameType.headers
        ? stripPadding(payload, header.flags, header.type)
        : payload;
    if (bare === undefined) {
      this.#violate(errorCode.protocol, 'more padding than frame');
      return false;
    }
    this.#block ??= {
      stream: header.stream,
      endStream: (header.flags & flag.endStream) !== 0,
      parts: [],
      bytes: 0,
    };
    const block = this.#block;
    block.parts.push(bare);
    block.bytes += bare.length;
    if (block.bytes > this.#maxBlockBytes || block.parts.length > maxContinuations) {
      this.#violate(errorCode.enhanceYourCalm, 'a header block is too long');
      return false;
    }
    if ((header.flags & flag.endHeaders) === 0) return true;
    this.#block = undefined;
    this.#handlers.headers(block.stream, Buffer.concat(block.parts), block.endStream);
    return true;
  }

  #data(): boolean {
    const { stream, flags, length } = this.#header;
    if (this.#left > 0) {
      if (this.#here === 0) return false;
      const end = Math.min(this.#input.length, this.#at + this.#left);
      const chunk = this.#input.subarray(this.#at, end);
      this.#left -= chunk.length;
      this.#at = end;
      this.#handlers.data(stream, chunk, 0);
      return true;
    }
    // Of the padding one byte, its length, was taken with the header.
    const trailing = Math.max(0, this.#padding - 1);
    if (this.#here < trailing) return false;
    if (this.#padding > 0) this.#handlers.data(stream, nothing, this.#padding);
    if (this.#isBroken()) return false;
    this.#at += trailing;
    this.#state = 'header';
    this.#handlers.dataEnd(stream, flags, length - this.#padding);
    return true;
  }
}
