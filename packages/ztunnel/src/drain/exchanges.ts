import type { Direction } from '@ambit/core';

/**
 * Follows HTTP/1.1 in the bytes of a connection from any moment on, as far as it takes to see where everything that was
 * asked is answered (RFC 9112 §6, §7). It changes and refuses nothing: what it does not understand it gives up, until
 * a chunk of the client begins a request again.
 */
export class Exchanges {
  #last: Direction | undefined;
  #lost = true;
  /** Methods of requests that are not answered yet, oldest first. */
  #open: string[] = [];
  readonly #requests = new Messages((head) => this.#onRequest(head));
  readonly #answers = new Messages((head) => this.#onAnswer(head));

  /** `last`: the direction of the last bytes before the first chunk that it sees. */
  constructor(last: Direction | undefined) {
    this.#last = last;
  }

  /** True where an answer ends with this chunk, and nothing else is asked. */
  follow(direction: Direction, chunk: Buffer): boolean {
    if (this.#lost && direction === 'sent' && this.#last !== 'sent' && beginsRequest(chunk))
      this.#begin();
    this.#last = direction;
    if (this.#lost) return false;
    const messages = direction === 'sent' ? this.#requests : this.#answers;
    this.#lost = !messages.take(chunk);
    if (this.#lost || direction === 'sent') return false;
    return this.#open.length === 0 && this.#answers.between && this.#requests.between;
  }

  #begin(): void {
    this.#lost = false;
    this.#open = [];
    this.#requests.begin();
    this.#answers.begin();
  }

  #onRequest(head: string): Body | undefined {
    const [, method] = requestLine.exec(head) ?? [];
    if (method === undefined || method === 'CONNECT' || this.#open.length >= maxOpen)
      return undefined;
    this.#open.push(method);
    return bodyOf(head, 0);
  }

  #onAnswer(head: string): Body | undefined {
    const [, digits] = statusLine.exec(head) ?? [];
    const status = Number(digits);
    if (digits === undefined || status === switchingProtocols) return undefined;
    if (status < 200) return 0;
    const method = this.#open.shift();
    if (method === undefined) return undefined;
    // Without a length an answer goes on until its connection ends.
    return method === 'HEAD' || status === 204 || status === 304 ? 0 : bodyOf(head, undefined);
  }
}

const maxOpen = 64;
const maxHeadBytes = 64 * 1024;
const switchingProtocols = 101;
const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) \S+ HTTP\/1\.[01]\r\n/;
const statusLine = /^HTTP\/1\.[01] ([1-9][0-9]{2})[ \r]/;
const maxLineBytes = 8 * 1024;

function beginsRequest(chunk: Buffer): boolean {
  return requestLine.test(chunk.toString('latin1', 0, maxLineBytes));
}

/** Bytes, or chunks that say it themselves. */
type Body = number | 'chunked';

const coding = /\r\ntransfer-encoding:[ \t]*([^\r]*?)[ \t]*\r\n/i;
const length = /\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n/i;

/** What follows a head that says nothing of a body is `unsaid`; undefined: it says it in a way that is not understood. */
function bodyOf(head: string, unsaid: Body | undefined): Body | undefined {
  const [, codings] = coding.exec(head) ?? [];
  if (codings !== undefined) return /^chunked$/i.test(codings) ? 'chunked' : undefined;
  const [, bytes] = length.exec(head) ?? [];
  return bytes === undefined ? unsaid : Number(bytes);
}

/** One direction: heads and bodies, one after the other. */
class Messages {
  #state: 'head' | 'body' | 'chunk-size' | 'chunk' | 'trailers' = 'head';
  /** Of a head or a line: what has come. */
  #text = '';
  #leftBytes = 0;
  readonly #onHead: (head: string) => Body | undefined;

  /** `onHead` takes a head with the line ends behind it and says what follows; undefined: not to be told. */
  constructor(onHead: (head: string) => Body | undefined) {
    this.#onHead = onHead;
  }

  get between(): boolean {
    return this.#state === 'head' && this.#text === '';
  }

  begin(): void {
    this.#state = 'head';
    this.#text = '';
  }

  /** False where it cannot be followed any more. */
  take(chunk: Buffer): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'body' || this.#state === 'chunk') {
        at += this.#skip(chunk.length - at);
        continue;
      }
      const end = this.#state === 'head' ? '\r\n\r\n' : '\r\n';
      const had = this.#text.length;
      this.#text += chunk.toString('latin1', at, at + maxHeadBytes);
      const found = this.#text.indexOf(end, Math.max(0, had - end.length + 1));
      if (found < 0) return this.#text.length < maxHeadBytes;
      at += found + end.length - had;
      const text = this.#text.slice(0, found);
      this.#text = '';
      if (!this.#next(text)) return false;
    }
    return true;
  }

  #skip(bytes: number): number {
    const skipped = Math.min(bytes, this.#leftBytes);
    this.#leftBytes -= skipped;
    if (this.#leftBytes === 0) this.#state = this.#state === 'body' ? 'head' : 'chunk-size';
    return skipped;
  }

  #next(text: string): boolean {
    if (this.#state === 'head') {
      const body = this.#onHead(`${text}\r\n`);
      if (body === undefined) return false;
      this.#leftBytes = body === 'chunked' ? 0 : body;
      this.#state = body === 'chunked' ? 'chunk-size' : body > 0 ? 'body' : 'head';
      return true;
    }
    if (this.#state === 'trailers') {
      if (text === '') this.#state = 'head';
      return true;
    }
    // The line end behind a chunk.
    if (text === '') return true;
    const size = /^([0-9A-Fa-f]{1,12})[ \t]*(?:;|$)/.exec(text)?.[1];
    if (size === undefined) return false;
    this.#leftBytes = Number.parseInt(size, 16);
    this.#state = this.#leftBytes === 0 ? 'trailers' : 'chunk';
    return true;
  }
}
