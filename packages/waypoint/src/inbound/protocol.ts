import type { ByteSink, ByteStream } from '@ambit/core';
import { serverNameOf } from './sni.ts';

export type Protocol = 'http1' | 'http2' | 'tls' | 'tcp';

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** So much tells how a request begins: a token of RFC 9110 and a space, after empty lines (RFC 9112 §2.2). */
const beginningBytes = 48;
const methodStart = /^[\r\n]{0,8}[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?: |$)/;
const emptyLines = /^[\r\n]{1,8}$/;
const versionEnd = /.{2} HTTP\/1\.[01]\r?$/;
/** A first line without an end beyond this is no line. */
export const maxFirstLineBytes = 16 * 1024;

/**
 * What bytes look like of which nobody has said what they are; undefined while they could still be several things. They
 * are HTTP/1 where the first line ends in its version: many protocols begin with a word and a space.
 */
export function protocolOf(bytes: Buffer): Protocol | undefined {
  if (bytes.length === 0) return undefined;
  const known = http2OrTls(bytes);
  if (known !== 'other') return known;
  const beginning = bytes.toString('latin1', 0, beginningBytes);
  if (emptyLines.test(beginning)) return undefined;
  if (!methodStart.test(beginning)) return 'tcp';
  let from = 0;
  while (bytes[from] === 0x0d || bytes[from] === 0x0a) from += 1;
  const end = bytes.indexOf(0x0a, from);
  if (end < 0) return bytes.length > maxFirstLineBytes ? 'tcp' : undefined;
  const tail = bytes.toString('latin1', Math.max(from, end - 16), end);
  return versionEnd.test(tail) ? 'http1' : 'tcp';
}

/** Lenient servers skip these before a method, and take these behind it. */
const blank = /^[\r\n\t\v\f ]+/;
const methodLike = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?:[ \t\v\f]|$)/;

/**
 * The same where something holds for requests: whatever a lenient server might take for one is left to the strict
 * codec, which refuses what it is not sure of.
 */
export function guardedProtocolOf(bytes: Buffer): Protocol | undefined {
  if (bytes.length === 0) return undefined;
  const known = http2OrTls(bytes);
  if (known !== 'other') return known;
  const text = bytes.toString('latin1', 0, beginningBytes).replace(blank, '');
  if (text === '') return bytes.length < beginningBytes ? undefined : 'http1';
  if (!methodLike.test(text)) return 'tcp';
  return /[ \t\v\f]/.test(text) ? 'http1' : undefined;
}

/** Of bytes that are HTTP by what the port says. */
export function httpVersionOf(bytes: Buffer): Protocol | undefined {
  if (bytes.length === 0) return undefined;
  const known = http2OrTls(bytes);
  return known === 'http2' || known === undefined ? known : 'http1';
}

function http2OrTls(bytes: Buffer): Protocol | 'other' | undefined {
  const head = bytes.subarray(0, preface.length);
  if (head.equals(preface.subarray(0, head.length))) {
    return head.length === preface.length ? 'http2' : undefined;
  }
  if (bytes[0] !== 0x16) return 'other';
  return bytes.length < 3 ? undefined : bytes[1] === 0x03 ? 'tls' : 'tcp';
}

/** How the first bytes are looked at. */
export interface Look {
  readonly decide: (bytes: Buffer) => Protocol | undefined;
  /** What they are that could still be several things when the time is over. */
  readonly undecided: Protocol;
  /** What it is where nothing comes. */
  readonly silent: Protocol;
  /** For the first of them. */
  readonly silentMs: number;
  /** For the rest of them. */
  readonly begunMs: number;
}

export interface Sniffed {
  readonly protocol: Protocol;
  /** The stream with the bytes that were looked at put back. */
  readonly stream: ByteStream;
  /** What was looked at. */
  readonly bytes: Buffer;
}

export interface Sniffing {
  readonly done: Promise<Sniffed>;
  /** Waits no longer. */
  giveUp(): void;
}

/** Looks at the first bytes of a stream. */
export function sniff(stream: ByteStream, look: Look): Sniffing {
  const peeked = new Peeked(stream, look);
  return { done: peeked.look(), giveUp: () => peeked.giveUp() };
}

const helloMs = 5_000;

class Peeked implements ByteStream {
  readonly #stream: ByteStream;
  #sink: ByteSink | undefined;
  #bytes: Buffer = Buffer.alloc(0);
  #ended = false;
  #closed: { readonly error: Error | undefined } | undefined;
  #attaching = false;
  #paused = false;
  #settle: ((protocol: Protocol) => void) | undefined;

  readonly #look: Look;
  #timer: NodeJS.Timeout | undefined;
  #isHelloAwaited = false;

  constructor(stream: ByteStream, look: Look) {
    this.#stream = stream;
    this.#look = look;
  }

  giveUp(): void {
    const { decide, undecided, silent } = this.#look;
    this.#settle?.(this.#bytes.length === 0 ? silent : (decide(this.#bytes) ?? undecided));
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // A hello that has begun gets the time of a handshake.
      if (!this.#isHelloAwaited && this.#look.decide(this.#bytes) === 'tls') {
        this.#isHelloAwaited = true;
        this.#wait(helloMs);
      } else this.giveUp();
    }, ms);
  }

  look(): Promise<Sniffed> {
    return new Promise((resolve) => {
      this.#wait(this.#look.silentMs);
      this.#settle = (protocol) => {
        this.#settle = undefined;
        clearTimeout(this.#timer);
        this.#stream.pause();
        resolve({ protocol, stream: this, bytes: this.#bytes });
      };
      this.#stream.attach({
        data: (chunk) => this.#data(chunk),
        end: () => {
          this.#ended = true;
          this.giveUp();
          this.#sink?.end();
        },
        drain: () => this.#sink?.drain(),
        close: (error) => {
          this.#closed = { error };
          this.giveUp();
          this.#sink?.close(error);
        },
      });
    });
  }

  #data(chunk: Buffer): void {
    if (this.#sink !== undefined) {
      this.#sink.data(chunk);
      return;
    }
    const isFirst = this.#bytes.length === 0;
    this.#bytes = isFirst ? chunk : Buffer.concat([this.#bytes, chunk]);
    if (isFirst && this.#settle !== undefined) this.#wait(this.#look.begunMs);
    const protocol = this.#look.decide(this.#bytes);
    // Routes and policies of TLS are by name, so all of the hello is waited for.
    if (protocol === 'tls' && serverNameOf(this.#bytes) === 'more') return;
    if (protocol !== undefined) this.#settle?.(protocol);
  }

  attach(sink: ByteSink): void {
    this.#sink = sink;
    const bytes = this.#bytes;
    this.#bytes = Buffer.alloc(0);
    // What follows must not overtake what was looked at, whatever the sink does with that.
    this.#attaching = true;
    if (bytes.length > 0) sink.data(bytes);
    this.#attaching = false;
    if (this.#ended) sink.end();
    if (this.#closed !== undefined) sink.close(this.#closed.error);
    if (!this.#paused) this.#stream.resume();
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
    this.#paused = true;
    this.#stream.pause();
  }
  resume(): void {
    this.#paused = false;
    if (!this.#attaching) this.#stream.resume();
  }
}
