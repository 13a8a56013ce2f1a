import { decodeHuffman } from './huffman.ts';

export type HeaderField = readonly [name: string, value: string];

// RFC 7541 Appendix A, in order; index 1 is the first.
const staticTable: readonly HeaderField[] = (
  ':authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|' +
  ':status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|' +
  'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
  'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
  'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
  'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
  'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate'
)
  .split('|')
  .map((entry) => {
    const at = entry.indexOf('=');
    return at < 0 ? ([entry, ''] as const) : ([entry.slice(0, at), entry.slice(at + 1)] as const);
  });

export const dynamicTableBytes = 4096;
/** Sum of name, value and 32 bytes for each field: what RFC 7541 counts, and what we let a peer make us hold. */
export const maxHeaderListBytes = 16 * 1024;
const entryOverhead = 32;

/** A header block that cannot be decoded ends the connection: both sides' tables would differ from here on. */
export class HpackError extends Error {
  readonly code = 'hbone/hpack';
}

/** Decodes header blocks in the order in which they came. */
export class HpackDecoder {
  readonly #dynamic: HeaderField[] = [];
  #dynamicSize = 0;
  #limit = dynamicTableBytes;
  #input: Buffer = Buffer.alloc(0);
  #at = 0;

  decode(block: Buffer): HeaderField[] {
    this.#input = block;
    this.#at = 0;
    const fields: HeaderField[] = [];
    let listBytes = 0;
    while (this.#at < block.length) {
      const field = this.#next(fields.length === 0);
      if (field === undefined) continue;
      listBytes += sizeOf(field);
      if (listBytes > maxHeaderListBytes) throw new HpackError('the header list is too long');
      fields.push(field);
    }
    return fields;
  }

  #next(mayResize: boolean): HeaderField | undefined {
    const first = this.#peek();
    if ((first & 0x80) !== 0) return this.#lookup(this.#integer(7));
    if ((first & 0xc0) === 0x40) {
      const field = this.#literal(6);
      this.#remember(field);
      return field;
    }
    if ((first & 0xe0) === 0x20) {
      if (!mayResize) throw new HpackError('a table size update stands behind a field');
      this.#resize(this.#integer(5));
      return undefined;
    }
    return this.#literal(4);
  }

  #literal(prefix: number): HeaderField {
    const index = this.#integer(prefix);
    const name = index === 0 ? this.#string() : this.#lookup(index)[0];
    return [name, this.#string()];
  }

  #lookup(index: number): HeaderField {
    const field =
      index <= staticTable.length
        ? staticTable[index - 1]
        : this.#dynamic[index - staticTable.length - 1];
    if (index === 0 || field === undefined)
      throw new HpackError(`there is no header field ${index}`);
    return field;
  }

  #remember(field: HeaderField): void {
    this.#dynamic.unshift(field);
    this.#dynamicSize += sizeOf(field);
    this.#evict();
  }

  #resize(limit: number): void {
    if (limit > dynamicTableBytes) throw new HpackError('the table may not grow that large');
    this.#limit = limit;
    this.#evict();
  }

  #evict(): void {
    while (this.#dynamicSize > this.#limit) {
      const oldest = this.#dynamic.pop();
      if (oldest === undefined) break;
      this.#dynamicSize -= sizeOf(oldest);
    }
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
    const end = this.#at + length;
    if (end > this.#input.length) throw new HpackError('a string is cut short');
    const raw = this.#input.subarray(this.#at, end);
    this.#at = end;
    const bytes = huffman ? decodeHuffman(raw, maxHeaderListBytes) : raw;
    if (bytes === undefined) throw new HpackError('a Huffman string is malformed');
    return bytes.toString('latin1');
  }
}

function sizeOf([name, value]: HeaderField): number {
  return name.length + value.length + entryOverhead;
}

const indexedStatus = new Map(
  staticTable.flatMap(([name, value], index) =>
    name === ':status' ? [[value, index + 1] as const] : [],
  ),
);

/** Encodes a block with static and literal fields only, so that there is no table of ours to keep in step. */
export function encodeHeaders(fields: readonly HeaderField[]): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) {
    const indexed = name === ':status' ? indexedStatus.get(value) : undefined;
    if (indexed !== undefined) {
      parts.push(Buffer.from([0x80 | indexed]));
      continue;
    }
    // Literal without indexing, new name.
    parts.push(Buffer.from([0x00]), encodeString(name), encodeString(value));
  }
  return Buffer.concat(parts);
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([encodeLength(bytes.length), bytes]);
}

function encodeLength(length: number): Buffer {
  if (length < 0x7f) return Buffer.from([length]);
  const bytes = [0x7f];
  let rest = length - 0x7f;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
