import { HttpError } from '../http/message.ts';
import type { HeaderList } from '../http/headers.ts';
import type { Framing } from './head.ts';
import { parseTrailers } from './head.ts';
import type { Http1Limits } from './limits.ts';
import { maxChunkLineBytes, maxExtensionBytes } from './limits.ts';

/** What a parser finds. `head` says how the body is framed; after `end` it waits for `next`. */
export interface ParserEvents {
  head(text: string): Framing | HttpError | 'stop';
  data(chunk: Buffer): void;
  end(trailers: HeaderList | undefined): void;
  failed(error: HttpError): void;
}

type State =
  | 'head'
  | 'length'
  | 'chunk-size'
  | 'chunk-data'
  | 'chunk-end'
  | 'trailers'
  | 'until-close'
  | 'complete'
  | 'stopped';

const headEnd = Buffer.from('\r\n\r\n');
const lineEnd = Buffer.from('\r\n');
const empty = Buffer.alloc(0);
const chunkLine =
  /^([0-9A-Fa-f]{1,12})(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"[\t\x20\x21\x23-\x5b\x5d-\x7e]*"))?)*$/;

/** Finds messages in bytes: heads as text, bodies as they come, never more than one message at a time. */
export class MessageParser {
  readonly #limits: Http1Limits;
  readonly #events: ParserEvents;
  #state: State = 'head';
  #rest: Buffer = empty;
  /** Of the rest: what has been looked through for the end of the head or line that it begins. */
  #searched = 0;
  readonly #joiner = new Joiner();
  /** Came while something else was parsed: it is next, and not before. */
  #late: Buffer = empty;
  #left = 0;
  #extensions = 0;
  #trailers = '';
  #pushing = false;
  /** Chunks that came together: a million tiny ones are handed on as a few. */
  #gathered: Buffer[] = [];
  /** While a message ends: bytes that came with it and belong to what follows. */
  #behind = 0;

  constructor(limits: Http1Limits, events: ParserEvents) {
    this.#limits = limits;
    this.#events = events;
  }

  /** True once something of a head has come and it is not whole. */
  get inHead(): boolean {
    return this.#state === 'head' && this.#rest.length > 0;
  }

  get betweenMessages(): boolean {
    return this.#state === 'complete' || (this.#state === 'head' && this.#rest.length === 0);
  }

  /** Bytes that came behind what was parsed. */
  takeRest(): Buffer {
    const rest = this.#late.length === 0 ? this.#rest : Buffer.concat([this.#rest, this.#late]);
    this.#rest = empty;
    this.#late = empty;
    return rest;
  }

  get restBytes(): number {
    return this.#late.length + (this.#pushing ? this.#behind : this.#rest.length);
  }

  /** Goes on with the next message, which may have come already. */
  next(): void {
    if (this.#state !== 'complete') return;
    this.#state = 'head';
    this.#extensions = 0;
    if (!this.#pushing && this.#rest.length > 0) this.push(empty);
  }

  stop(): void {
    this.#state = 'stopped';
  }

  push(chunk: Buffer): void {
    if (this.#pushing) {
      this.#late = this.#late.length === 0 ? chunk : Buffer.concat([this.#late, chunk]);
      return;
    }
    if (this.#state === 'stopped') return;
    let bytes = this.#joiner.join(this.#rest, chunk);
    this.#rest = empty;
    this.#pushing = true;
    for (;;) {
      const used = this.#step(bytes);
      if (used === undefined) break;
      this.#searched = 0;
      bytes = used === bytes.length ? empty : bytes.subarray(used);
      if (bytes.length === 0 && this.#state !== 'chunk-data' && this.#state !== 'length') break;
      if (bytes.length === 0) break;
    }
    this.#handOn();
    this.#pushing = false;
    if (this.#isStopped()) return;
    this.#rest = bytes;
    if (this.#late.length === 0) return;
    const late = this.#late;
    this.#late = empty;
    this.push(late);
  }

  /** The other side has said all: only an answer without a length is whole by that. */
  close(): void {
    if (this.#state === 'until-close') {
      this.#state = 'complete';
      this.#events.end(undefined);
    } else if (!this.betweenMessages && !this.#isStopped()) {
      this.#fail('http1/cut-off', 'the message was cut off');
    }
  }

  #isStopped(): boolean {
    return this.#state === 'stopped';
  }

  /** Takes what it can of the bytes; undefined when it needs more or must wait. */
  #step(bytes: Buffer): number | undefined {
    switch (this.#state) {
      case 'head':
        return bytes.length === 0 ? undefined : this.#head(bytes);
      case 'length':
      case 'chunk-data':
        return this.#body(bytes);
      case 'until-close':
        if (bytes.length > 0) this.#events.data(bytes);
        return bytes.length === 0 ? undefined : bytes.length;
      case 'chunk-size':
        return this.#chunkSize(bytes);
      case 'chunk-end':
        return this.#chunkEnd(bytes);
      case 'trailers':
        return this.#trailerLine(bytes);
      case 'complete':
      case 'stopped':
        return undefined;
    }
  }

  #head(bytes: Buffer): number | undefined {
    const end = bytes.indexOf(headEnd, Math.max(0, this.#searched - headEnd.length + 1));
    if (end < 0 || end > this.#limits.maxHeadBytes) {
      const from = this.#searched;
      this.#searched = bytes.length;
      if (hasBareLineFeed(bytes, from))
        this.#fail('http1/malformed', 'a line feed without its return');
      else if (bytes.length > this.#limits.maxHeadBytes) {
        this.#fail(
          'http1/head-too-big',
          `a head of more than ${this.#limits.maxHeadBytes} bytes`,
          431,
        );
      }
      return undefined;
    }
    const framing = this.#events.head(bytes.toString('latin1', 0, end));
    if (framing === 'stop') {
      this.#state = 'stopped';
      this.#rest = bytes.subarray(end + 4);
      return undefined;
    }
    if (framing instanceof HttpError) {
      this.#state = 'stopped';
      this.#events.failed(framing);
      return undefined;
    }
    this.#behind = bytes.length - end - 4;
    this.#begin(framing);
    return end + 4;
  }

  #begin(framing: Framing): void {
    switch (framing.kind) {
      case 'none':
        this.#finish(undefined);
        break;
      case 'length':
        this.#left = framing.bytes;
        this.#state = 'length';
        break;
      case 'chunked':
        this.#state = 'chunk-size';
        this.#trailers = '';
        break;
      case 'until-close':
        this.#state = 'until-close';
        break;
    }
  }

  #body(bytes: Buffer): number | undefined {
    if (bytes.length === 0) return undefined;
    const part = bytes.length <= this.#left ? bytes : bytes.subarray(0, this.#left);
    this.#left -= part.length;
    const done = this.#left === 0;
    const chunked = this.#state === 'chunk-data';
    this.#behind = bytes.length - part.length;
    if (done && chunked) this.#state = 'chunk-end';
    if (chunked) this.#gathered.push(part);
    else this.#events.data(part);
    if (done && !chunked && !this.#isStopped()) this.#finish(undefined);
    return part.length;
  }

  #chunkSize(bytes: Buffer): number | undefined {
    const end = this.#line(bytes, maxChunkLineBytes);
    if (end === undefined) return undefined;
    const line = chunkLine.exec(bytes.toString('latin1', 0, end));
    const digits = line?.[1];
    this.#extensions += end - (digits?.length ?? 0);
    if (digits === undefined || this.#extensions > maxExtensionBytes) {
      this.#fail('http1/malformed', 'a chunk without a good size');
      return undefined;
    }
    this.#left = Number.parseInt(digits, 16);
    this.#state = this.#left === 0 ? 'trailers' : 'chunk-data';
    return end + 2;
  }

  #chunkEnd(bytes: Buffer): number | undefined {
    if (bytes.length < 2) {
      if (bytes.length === 1 && bytes[0] !== 0x0d) {
        this.#fail('http1/malformed', 'a chunk that is longer than its size');
      }
      return undefined;
    }
    if (bytes[0] !== 0x0d || bytes[1] !== 0x0a) {
      this.#fail('http1/malformed', 'a chunk that is longer than its size');
      return undefined;
    }
    this.#state = 'chunk-size';
    return 2;
  }

  #trailerLine(bytes: Buffer): number | undefined {
    const end = this.#line(bytes, this.#limits.maxHeadBytes);
    if (end === undefined) return undefined;
    if (end > 0) {
      this.#trailers += `${bytes.toString('latin1', 0, end)}\r\n`;
      if (this.#trailers.length > this.#limits.maxHeadBytes) {
        this.#fail('http1/head-too-big', 'trailers beyond the limit', 431);
        return undefined;
      }
      return end + 2;
    }
    this.#behind = bytes.length - 2;
    if (this.#trailers === '') {
      this.#finish(undefined);
      return 2;
    }
    const trailers = parseTrailers(this.#trailers, this.#limits.maxFields);
    if (!trailers.ok) {
      this.#state = 'stopped';
      this.#events.failed(trailers.error);
      return undefined;
    }
    this.#finish(trailers.value);
    return 2;
  }

  #line(bytes: Buffer, max: number): number | undefined {
    const end = bytes.indexOf(lineEnd, Math.max(0, this.#searched - lineEnd.length + 1));
    if (end >= 0 && end <= max) return end;
    const from = this.#searched;
    this.#searched = bytes.length;
    if (bytes.length > max || hasBareLineFeed(bytes, from)) {
      this.#fail('http1/malformed', 'a line that does not end as it should');
    }
    return undefined;
  }

  #handOn(): void {
    const parts = this.#gathered;
    const [only] = parts;
    if (only === undefined) return;
    this.#gathered = [];
    if (!this.#isStopped()) this.#events.data(parts.length === 1 ? only : Buffer.concat(parts));
  }

  #finish(trailers: HeaderList | undefined): void {
    this.#handOn();
    if (this.#isStopped()) return;
    this.#state = 'complete';
    this.#events.end(trailers);
  }

  #fail(code: string, message: string, status = 400): void {
    this.#handOn();
    if (this.#isStopped()) return;
    this.#state = 'stopped';
    this.#events.failed(new HttpError(code, status, message));
  }
}

/** Puts small pieces together without copying again what is there already. */
class Joiner {
  /** The last buffer that was made here, filled up to `#used`; behind that it belongs to nobody. */
  #room: Buffer = empty;
  #used = 0;

  /** `rest` may be a part of what was joined before; nothing that was handed out is ever overwritten. */
  join(rest: Buffer, chunk: Buffer): Buffer {
    if (rest.length === 0) {
      this.#room = empty;
      return chunk;
    }
    if (chunk.length === 0) return rest;
    const length = rest.length + chunk.length;
    const end = rest.byteOffset + rest.length - this.#room.byteOffset;
    const isLast = rest.buffer === this.#room.buffer && end === this.#used;
    if (!isLast || end + chunk.length > this.#room.length) {
      this.#room = Buffer.allocUnsafeSlow(Math.max(minRoomBytes, length * 2));
      rest.copy(this.#room);
      this.#used = rest.length;
    }
    const from = this.#used - rest.length;
    chunk.copy(this.#room, this.#used);
    this.#used += chunk.length;
    return this.#room.subarray(from, this.#used);
  }
}
const minRoomBytes = 512;

function hasBareLineFeed(bytes: Buffer, from: number): boolean {
  for (let at = bytes.indexOf(0x0a, from); at >= 0; at = bytes.indexOf(0x0a, at + 1)) {
    if (at === 0 || bytes[at - 1] !== 0x0d) return true;
  }
  return false;
}
