// Lengths of the codes of RFC 7541 Appendix B, by symbol; 256 is the end of a string. The code is canonical:
// codes of one length follow each other in the order of their symbols, so the lengths say everything.
const lengths =
  '13 23 28*7 24 30 28 28 30 28*8 30 28*9 6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5*3 6*7 7 8 15 6 12 10 13 ' +
  '6 7*22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 20 22 20 20 22 ' +
  '22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23 22 ' +
  '22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 ' +
  '25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 ' +
  '27 27 27 27 27 28 27 27 27 27 27 26 30';

const endOfString = 256;
const maxLength = 30;

function expand(text: string): number[] {
  return text.split(' ').flatMap((part) => {
    const [length = '', times = '1'] = part.split('*');
    return new Array<number>(Number(times)).fill(Number(length));
  });
}

interface Table {
  /** By length: the first code of that length, and how many there are. */
  readonly firstCode: Int32Array;
  readonly count: Int32Array;
  /** By length: where its symbols begin in `symbols`. */
  readonly offset: Int32Array;
  readonly symbols: Uint16Array;
}

function build(): Table {
  const all = expand(lengths);
  const count = new Int32Array(maxLength + 1);
  for (const length of all) count[length] = (count[length] ?? 0) + 1;
  const firstCode = new Int32Array(maxLength + 1);
  const offset = new Int32Array(maxLength + 1);
  let code = 0;
  let index = 0;
  for (let length = 1; length <= maxLength; length += 1) {
    code = (code + (count[length - 1] ?? 0)) << 1;
    firstCode[length] = code;
    offset[length] = index;
    index += count[length] ?? 0;
  }
  const symbols = Uint16Array.from(
    all
      .map((length, symbol) => ({ length, symbol }))
      .sort((a, b) => a.length - b.length || a.symbol - b.symbol),
    ({ symbol }) => symbol,
  );
  return { firstCode, count, offset, symbols };
}

const table = build();

/** Codes of no more bits than this are found by one look: those of all that is common in fields. */
const fastBits = 8;
/** By the next eight bits: the symbol and, above it, the length of its code; nothing where the code is longer. */
const fast = new Uint16Array(1 << fastBits);
for (let length = 1; length <= fastBits; length += 1) {
  for (let place = 0; place < (table.count[length] ?? 0); place += 1) {
    const code = (table.firstCode[length] ?? 0) + place;
    const symbol = table.symbols[(table.offset[length] ?? 0) + place] ?? 0;
    const from = code << (fastBits - length);
    fast.fill((length << 8) | symbol, from, from + (1 << (fastBits - length)));
  }
}

let scratch = Buffer.allocUnsafeSlow(4096);

/** Decodes a Huffman-coded string as latin1; undefined where padding or content breaks RFC 7541 §5.2. */
export function decodeHuffman(input: Uint8Array, from: number, to: number): string | undefined {
  // The shortest code has five bits.
  const most = Math.floor(((to - from) * 8) / 5);
  if (most > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * most);
  const output = scratch;
  let written = 0;
  const end = to * 8;
  for (let at = from * 8; at < end;) {
    const byte = at >> 3;
    const next = byte + 1 < to ? (input[byte + 1] ?? 0) : 0xff;
    const found = fast[((((input[byte] ?? 0) << 8) | next) >> (8 - (at & 7))) & 0xff] ?? 0;
    const length = found >> 8;
    if (length > 0 && at + length <= end) {
      output[written++] = found;
      at += length;
      continue;
    }
    if (end - at < 8) {
      // The beginning of the code that ends a string: all ones.
      if (((input[byte] ?? 0) | (0xff00 >> (at & 7))) !== ((0xff00 >> (at & 7)) | 0xff))
        return undefined;
      break;
    }
    const long = longCode(input, at, end);
    if (long === undefined) return undefined;
    output[written++] = long;
    at += long >> 8;
  }
  return output.toString('latin1', 0, written);
}

/** A code of more than eight bits at a place in bits: its symbol and, above it, its length. */
function longCode(input: Uint8Array, from: number, end: number): number | undefined {
  let code = 0;
  for (let length = 1; length <= maxLength && from + length <= end; length += 1) {
    const at = from + length - 1;
    code = (code << 1) | (((input[at >> 3] ?? 0) >> (7 - (at & 7))) & 1);
    const place = code - (table.firstCode[length] ?? 0);
    if (place < 0 || place >= (table.count[length] ?? 0)) continue;
    const symbol = table.symbols[(table.offset[length] ?? 0) + place] ?? endOfString;
    return symbol === endOfString ? undefined : (length << 8) | symbol;
  }
  return undefined;
}
