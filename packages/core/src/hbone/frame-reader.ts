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
import { maxContinuations, maxHeaderBlockBytes } from './limits.ts';

export interface FrameHandlers {
  /** A whole frame other than DATA, HEADERS and CONTINUATION. */
  frame(header: FrameHeader, payload: Buffer): void;
  /** A part of a DATA frame, as it came off the wire; `padding` bytes count for flow control only. */
  data(stream: number, chunk: Buffer, padding: number): void;
  dataEnd(stream: number, flags: number, length: number): void;
  /** A whole header block. */
  headers(stream: number, block: Buffer, endStream: boolean): void;
  /** Part of a header block is there, the rest is not. */
  headersBegun(): void;
  /** The peer's preface and first SETTINGS have arrived. */
  settled(): void;
  violation(code: number, why: string): void;
}

type State =
  | { readonly kind: 'preface' }
  | { readonly kind: 'header' }
  | { readonly kind: 'payload'; readonly header: FrameHeader }
  | { readonly kind: 'data'; readonly header: FrameHeader; left: number; padding: number }
  | { readonly kind: 'broken' };

/** Other frames than DATA and header blocks are small; a longer one is somebody's mistake or mischief. */
const maxControlBytes = 16 * 1024;

/** Cuts a byte stream into frames. DATA is handed on as it comes, so a frame of a megabyte needs no buffer. */
export class FrameReader {
  readonly #handlers: FrameHandlers;
  readonly #maxFrameBytes: number;
  #state: State;
  #carry: Buffer = Buffer.alloc(0);
  #first = true;
  #block: { stream: number; endStream: boolean; parts: Buffer[]; bytes: number } | undefined;

  constructor(expectPreface: boolean, maxFrameBytes: number, handlers: FrameHandlers) {
    this.#state = { kind: expectPreface ? 'preface' : 'header' };
    this.#maxFrameBytes = maxFrameBytes;
    this.#handlers = handlers;
  }

  /** Takes no more: the session is over. */
  stop(): void {
    this.#state = { kind: 'broken' };
    this.#carry = Buffer.alloc(0);
  }

  push(chunk: Buffer): void {
    let input = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    this.#carry = Buffer.alloc(0);
    for (;;) {
      const rest = this.#step(input);
      if (rest === undefined) break;
      input = rest;
    }
    if (this.#state.kind !== 'broken') this.#carry = input;
  }

  /** Takes one piece off the input and returns the rest; undefined when it needs more. */
  #step(input: Buffer): Buffer | undefined {
    const state = this.#state;
    switch (state.kind) {
      case 'preface':
        return this.#preface(input);
      case 'header':
        return this.#header(input);
      case 'payload':
        return this.#payload(input, state.header);
      case 'data':
        return this.#data(input, state);
      case 'broken':
        return undefined;
    }
  }

  /** Ends the reading; the result says that there is no rest. */
  #violate(code: number, why: string): Buffer | undefined {
    this.#state = { kind: 'broken' };
    this.#handlers.violation(code, why);
    return undefined;
  }

  #preface(input: Buffer): Buffer | undefined {
    const seen = Math.min(input.length, preface.length);
    if (!input.subarray(0, seen).equals(preface.subarray(0, seen))) {
      return this.#violate(errorCode.protocol, 'the client does not begin with the HTTP/2 preface');
    }
    if (seen < preface.length) return undefined;
    this.#state = { kind: 'header' };
    return input.subarray(preface.length);
  }

  #header(input: Buffer): Buffer | undefined {
    if (input.length < headerBytes) return undefined;
    const header = readFrameHeader(input, 0);
    const why = this.#unfit(header);
    if (why !== undefined) return this.#violate(errorCode.protocol, why);
    if (header.type === frameType.data) {
      this.#state = { kind: 'data', header, left: header.length, padding: 0 };
      const padded = (header.flags & flag.padded) !== 0;
      if (!padded) return input.subarray(headerBytes);
      return this.#padded(input, header);
    }
    this.#state = { kind: 'payload', header };
    if (header.type === frameType.headers) this.#handlers.headersBegun();
    return input.subarray(headerBytes);
  }

  #padded(input: Buffer, header: FrameHeader): Buffer | undefined {
    if (input.length < headerBytes + 1 && header.length > 0) {
      this.#state = { kind: 'header' };
      return undefined;
    }
    const padding = input[headerBytes] ?? 0;
    if (header.length < 1 + padding)
      return this.#violate(errorCode.protocol, 'more padding than frame');
    this.#state = { kind: 'data', header, left: header.length - 1 - padding, padding: padding + 1 };
    return input.subarray(headerBytes + 1);
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
    return this.#misplaced(header) ?? tooLong(header);
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

  #payload(input: Buffer, header: FrameHeader): Buffer | undefined {
    if (input.length < header.length) return undefined;
    const payload = input.subarray(0, header.length);
    this.#state = { kind: 'header' };
    if (header.type === frameType.headers || header.type === frameType.continuation) {
      if (!this.#blockPart(header, payload)) return undefined;
    } else {
      this.#handlers.frame(header, payload);
    }
    return input.subarray(header.length);
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
    if (block.bytes > maxHeaderBlockBytes || block.parts.length > maxContinuations) {
      this.#violate(errorCode.enhanceYourCalm, 'a header block is too long');
      return false;
    }
    if ((header.flags & flag.endHeaders) === 0) return true;
    this.#block = undefined;
    this.#handlers.headers(block.stream, Buffer.concat(block.parts), block.endStream);
    return true;
  }

  #data(input: Buffer, state: Extract<State, { kind: 'data' }>): Buffer | undefined {
    const { header } = state;
    if (state.left > 0) {
      if (input.length === 0) return undefined;
      const chunk = input.subarray(0, state.left);
      state.left -= chunk.length;
      this.#handlers.data(header.stream, chunk, 0);
      return input.subarray(chunk.length);
    }
    // Of the padding one byte, its length, was taken with the header.
    const trailing = Math.max(0, state.padding - 1);
    if (input.length < trailing) return undefined;
    if (state.padding > 0) this.#handlers.data(header.stream, Buffer.alloc(0), state.padding);
    this.#state = { kind: 'header' };
    this.#handlers.dataEnd(header.stream, header.flags, header.length);
    return input.subarray(trailing);
  }
}

function tooLong({ type, length }: FrameHeader): string | undefined {
  if (type === frameType.data) return undefined;
  const ofBlock = type === frameType.headers || type === frameType.continuation;
  if (ofBlock) return length > maxHeaderBlockBytes ? 'a header block is too long' : undefined;
  return length > maxControlBytes ? 'a control frame is too long' : undefined;
}
