import type { FieldList } from './hpack-table.ts';
import { dynamicTableBytes, sizeOfField, staticCount, staticFields } from './hpack-table.ts';

/** Fields whose values hardly come twice: they would push others out of the table. */
const fleeting: ReadonlySet<string> = new Set([
  ':path',
  'age',
  'content-length',
  'content-range',
  'date',
  'etag',
  'expires',
  'grpc-message',
  'grpc-timeout',
  'if-modified-since',
  'if-none-match',
  'last-modified',
  'location',
  'range',
  'traceparent',
  'tracestate',
  'x-b3-parentspanid',
  'x-b3-spanid',
  'x-b3-traceid',
  'x-envoy-upstream-service-time',
  'x-request-id',
]);

/** Secrets: whoever can make us send fields of theirs must not learn by sizes what is in the table (RFC 7541 §7.1). */
const secret: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'proxy-authorization',
  'set-cookie',
]);

const staticNames = new Map<string, number>();
const staticValues = new Map<string, Map<string, number>>();
for (let index = staticCount; index > 0; index -= 1) {
  const name = staticFields[2 * (index - 1)] ?? '';
  const value = staticFields[2 * index - 1] ?? '';
  staticNames.set(name, index);
  if (value === '') continue;
  const values = staticValues.get(name) ?? new Map<string, number>();
  staticValues.set(name, values.set(value, index));
}

/** One field in the table, for as long as it has not been pushed out. */
interface Entry {
  readonly name: string;
  readonly value: string;
  /** Counts from one, over the life of the connection. */
  readonly number: number;
}

const firstScratchBytes = 4096;
/** Above this the call into Node is faster than a loop. */
const loopBytes = 24;

/** Encodes header blocks in the order in which they leave. A table of no bytes keeps every block independent. */
export class HpackEncoder {
  #limit: number;
  readonly #known = new Map<string, Map<string, Entry>>();
  #entries: (Entry | undefined)[] = [];
  #first = 0;
  #added = 0;
  #size = 0;
  #smallest: number | undefined;
  #out = Buffer.allocUnsafeSlow(firstScratchBytes);
  #at = 0;

  constructor(tableBytes: number) {
    this.#limit = tableBytes;
  }

  /** The peer's table may be smaller than ours; told to it with the next block. */
  bound(peerBytes: number): void {
    const limit = Math.min(peerBytes, dynamicTableBytes);
    if (limit >= this.#limit) return;
    this.#limit = limit;
    this.#smallest = limit;
    this.#evict();
  }

  /** The bytes are valid until the next call. */
  encode(fields: FieldList): Buffer {
    this.#at = 0;
    if (this.#smallest !== undefined) {
      this.#room(8);
      this.#integer(0x20, 5, this.#smallest);
      this.#smallest = undefined;
    }
    for (let at = 0; at + 1 < fields.length; at += 2) {
      this.#field(fields[at] ?? '', fields[at + 1] ?? '');
    }
    return this.#out.subarray(0, this.#at);
  }

  #field(name: string, value: string): void {
    this.#room(name.length + value.length + 32);
    const index = staticValues.get(name)?.get(value) ?? this.#indexOf(name, value);
    if (index !== undefined) {
      this.#integer(0x80, 7, index);
      return;
    }
    const known = staticNames.get(name);
    if (secret.has(name)) {
      this.#literal(0x10, 4, known, name, value);
      return;
    }
    const size = sizeOfField(name, value);
    // A field that takes half of the table is worth less than what it pushes out.
    if (fleeting.has(name) || size > this.#limit / 2) {
      this.#literal(0x00, 4, known, name, value);
      return;
    }
    this.#literal(0x40, 6, known, name, value);
    this.#remember(name, value, size);
  }

  #indexOf(name: string, value: string): number | undefined {
    const entry = this.#known.get(name)?.get(value);
    return entry && staticCount + this.#added - entry.number + 1;
  }

  #remember(name: string, value: string, size: number): void {
    this.#added += 1;
    const entry = { name, value, number: this.#added };
    const values = this.#known.get(name) ?? new Map<string, Entry>();
    this.#known.set(name, values.set(value, entry));
    this.#entries.push(entry);
    this.#size += size;
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#limit) {
      const entry = this.#entries[this.#first];
      if (entry === undefined) break;
      this.#entries[this.#first] = undefined;
      this.#first += 1;
      this.#size -= sizeOfField(entry.name, entry.value);
      const values = this.#known.get(entry.name);
      values?.delete(entry.value);
      if (values?.size === 0) this.#known.delete(entry.name);
    }
    if (this.#first < compactAt) return;
    this.#entries = this.#entries.slice(this.#first);
    this.#first = 0;
  }

  #literal(
    pattern: number,
    prefix: number,
    index: number | undefined,
    name: string,
    value: string,
  ): void {
    this.#integer(pattern, prefix, index ?? 0);
    if (index === undefined) this.#string(name);
    this.#string(value);
  }

  #string(text: string): void {
    const { length } = text;
    this.#integer(0, 7, length);
    const out = this.#out;
    const from = this.#at;
    if (length > loopBytes) out.write(text, from, 'latin1');
    else for (let at = 0; at < length; at += 1) out[from + at] = text.charCodeAt(at);
    this.#at = from + length;
  }

  #integer(pattern: number, prefix: number, value: number): void {
    const mask = (1 << prefix) - 1;
    if (value < mask) {
      this.#out[this.#at++] = pattern | value;
      return;
    }
    this.#out[this.#at++] = pattern | mask;
    let rest = value - mask;
    for (; rest >= 0x80; rest >>>= 7) this.#out[this.#at++] = (rest & 0x7f) | 0x80;
    this.#out[this.#at++] = rest;
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#out.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * (this.#at + bytes));
    this.#out.copy(larger, 0, 0, this.#at);
    this.#out = larger;
  }
}

const compactAt = 256;
