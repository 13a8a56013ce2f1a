import type { ByteSink, ByteStream } from '@ambit/core';
import { serverNameOf } from './sni.ts';

export type Protocol = 'http1' | 'http2' | 'tls' | 'tcp';

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** A token of RFC 9110 and a space, after empty lines that servers overlook (RFC 9112 §2.2). */
const methodStart = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?: |$)/;
const emptyLines = /^[\r\n]{0,8}/;

/** What bytes look like; undefined while they could still be several things. */
export function protocolOf(bytes: Buffer): Protocol | undefined {
  if (bytes.length === 0) return undefined;
  const head = bytes.subarray(0, preface.length);
  if (head.equals(preface.subarray(0, head.length))) {
    return head.length === preface.length ? 'http2' : undefined;
  }
  if (bytes[0] === 0x16) return bytes.length < 3 ? undefined : bytes[1] === 0x03 ? 'tls' : 'tcp';
  const text = bytes.toString('latin1', 0, 48).replace(emptyLines, '');
  if (text === '') return undefined;
  if (!methodStart.test(text)) return 'tcp';
  return text.includes(' ') ? 'http1' : undefined;
}

export interface Sniffed {
  readonly protocol: Protocol;
  /** The stream with the bytes that were looked at put back. */
  readonly stream: ByteStream;
  /** What was looked at. */
  readonly bytes: Buffer;
}

/** Looks at the first bytes of a stream; one that says nothing in time is of a protocol whose server speaks first. */
export function sniff(stream: ByteStream, timeoutMs: number): Promise<Sniffed> {
  const peeked = new Peeked(stream);
  return peeked.look(timeoutMs);
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

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  look(timeoutMs: number): Promise<Sniffed> {
    return new Promise((resolve) => {
      const late = (): void => {
        const protocol = protocolOf(this.#bytes) ?? 'tcp';
        // A hello that has begun gets the time of a handshake.
        if (protocol === 'tls' && timer !== handshake)
          timer = handshake = setTimeout(late, helloMs);
        else this.#settle?.(protocol);
      };
      let handshake: NodeJS.Timeout | undefined;
      let timer = setTimeout(late, timeoutMs);
      this.#settle = (protocol) => {
        this.#settle = undefined;
        clearTimeout(timer);
        this.#stream.pause();
        resolve({ protocol, stream: this, bytes: this.#bytes });
      };
      this.#stream.attach({
        data: (chunk) => this.#data(chunk),
        end: () => {
          this.#ended = true;
          this.#settle?.('tcp');
          this.#sink?.end();
        },
        drain: () => this.#sink?.drain(),
        close: (error) => {
          this.#closed = { error };
          this.#settle?.('tcp');
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
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const protocol = protocolOf(this.#bytes);
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
