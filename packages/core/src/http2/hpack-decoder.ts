import type { FieldList } from './hpack-table.ts';
import { dynamicTableBytes, sizeOfField, staticCount, staticFields } from './hpack-table.ts';
import { decodeHuffman } from './huffman.ts';

/** A header block that cannot be decoded ends the connection: both sides' tables would differ from here on. */
export class HpackError extends Error {
  readonly code = 'http2/hpack';
}

/** A decoded header block. */
export interface HeaderBlock {
  readonly fields: FieldList;
  /** There was more than is allowed; `fields` ends before it. */
  readonly tooLarge: boolean;
}

export interface HeaderBounds {
  /** Sum of what RFC 7541 §4.1 counts for each field. */
  readonly maxListBytes: number;
  readonly maxFields: number;
}

/** Beyond this many times the bound it is no mistake, and the rest is not even looked at. */
const bombFactor = 4;
const nothing = Buffer.alloc(0);

/** Decodes header blocks in the order in which they came. */
export class HpackDecoder {
  readonly #bounds: HeaderBounds;
  /** Flat, the newest last; from `#first` on. */
  readonly #dynamic: string[] = [];
  #first = 0;
  #dynamicSize = 0;
  #limit = dynamicTableBytes;
  #input: Buffer = nothing;
  #at = 0;

  constructor(bounds: HeaderBounds) {
    this.#bounds = bounds;
  }

  decode(block: Buffer): HeaderBlock {
    this.#input = block;
    this.#at = 0;
    const { maxListBytes, maxFields } = this.#bounds;
    const fields: string[] = [];
    let listBytes = 0;
    let count = 0;
    while (this.#at < block.length) {
      if (!this.#next(fields, count === 0)) continue;
      count += 1;
      const end = fields.length;
      listBytes += sizeOfField(fields[end - 2] ?? '', fields[end - 1] ?? '');
      if (listBytes <= maxListBytes && count <= maxFields) continue;
      if (listBytes > maxListBytes * bombFactor || count > maxFields * bombFactor) {
        throw new HpackError('the header list is too long');
      }
      // Decoded all the same, for the sake of the table.
      fields.length = end - 2;
    }
    this.#input = nothing;
    return { fields, tooLarge: listBytes > maxListBytes || count > maxFields };
  }

  /** Takes one instruction; true where it added a field. */
  #next(fields: string[], mayResize: boolean): boolean {
    const first = this.#peek();
    if ((first & 0x80) !== 0) {
      const at = this.#place(this.#integer(7));
      const table = at < 0 ? staticFields : this.#dynamic;
      const from = at < 0 ? -at - 1 : at;
      fields.push(table[from] ?? '', table[from + 1] ?? '');
      return true;
    }
    if ((first & 0xc0) === 0x40) {
      this.#literal(fields, 6);
      this.#remember(fields[fields.length - 2] ?? '', fields[fields.length - 1] ?? '');
      return true;
    }
    if ((first & 0xe0) === 0x20) {
      if (!mayResize) throw new HpackError('a table size update stands behind a field');
      this.#resize(this.#integer(5));
      return false;
    }
    this.#literal(fields, 4);
    return true;
  }

  #literal(fields: string[], prefix: number): void {
    const index = this.#integer(prefix);
    fields.push(index === 0 ? this.#string() : this.#nameAt(index), this.#string());
  }

  #nameAt(index: number): string {
    const at = this.#place(index);
    return (at < 0 ? staticFields[-at - 1] : this.#dynamic[at]) ?? '';
  }

  /** Where the name of a field stands: in the static table where negative, as `-(at + 1)`. */
  #place(index: number): number {
    if (index > 0 && index <= staticCount) return -(2 * (index - 1) + 1);
    const at = this.#dynamic.length - 2 * (index - staticCount);
    if (index === 0 || at < this.#first) {
      throw new HpackError(`there is no header field ${index}`);
    }
    return at;
  }

  #remember(name: string, value: string): void {
    this.#dynamic.push(name, value);
    this.#dynamicSize += sizeOfField(name, value);
    this.#evict();
  }

  #resize(limit: number): void {
    if (limit > dynamicTableBytes) throw new HpackError('the table may not grow that large');
    this.#limit = limit;
    this.#evict();
  }

  #evict(): void {
    const table = this.#dynamic;
    while (this.#dynamicSize > this.#limit && this.#first < table.length) {
      this.#dynamicSize -= sizeOfField(table[this.#first] ?? '', table[this.#first + 1] ?? '');
      // What is gone must not be held.
      table[this.#first] = table[this.#first + 1] = '';
      this.#first += 2;
    }
    if (this.#first < compactAt) return;
    table.splice(0, this.#first);
    this.#first = 0;
  }

  #peek(): number {
    const byte = this.#input[this.#at];
    if (byte === undefined) throw new HpackError('the header block is cut short');
    return byte;
  }

  #integer(prefix: number): number {
    const mask = (1 << prefix) - 1;
    let value = this.#peek() & mask;
    this.#at += 1;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#peek();
      this.#at += 1;
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new HpackError('an integer is too long');
  }

  #string(): string {
    const huffman = (this.#peek() & 0x80) !== 0;
    const length = this.#integer(7);
    const from = this.#at;
    const end = from + length;
    if (end > this.#input.length) throw new HpackError('a string is cut short');
    this.#at = end;
    if (!huffman) return this.#input.toString('latin1', from, end);
    const text = decodeHuffman(this.#input, from, end);
    if (text === undefined) throw new HpackError('a Huffman string is malformed');
    return text;
  }
}

/** Places in front of the table that may stay empty before the rest is moved up. */
const compactAt = 512;
