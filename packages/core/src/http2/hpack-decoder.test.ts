import { describe, expect, test } from '@jest/globals';
import { HpackDecoder, HpackError } from './hpack-decoder.ts';
import { decodeHuffman } from './huffman.ts';

const bounds = { maxListBytes: 16 * 1024, maxFields: 128 };

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

function pairs(decoder: HpackDecoder, block: Buffer): string[][] {
  const { fields } = decoder.decode(block);
  return Array.from({ length: fields.length / 2 }, (_, at) => fields.slice(2 * at, 2 * at + 2));
}

describe('HPACK, by the examples of RFC 7541 Appendix C', () => {
  test('C.4: requests with Huffman coding share one dynamic table', () => {
    const decoder = new HpackDecoder(bounds);
    expect(pairs(decoder, hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'))).toEqual([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ]);
    expect(pairs(decoder, hex('8286 84be 5886 a8eb 1064 9cbf'))).toEqual([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
      ['cache-control', 'no-cache'],
    ]);
    expect(
      pairs(decoder, hex('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf')),
    ).toEqual([
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/index.html'],
      [':authority', 'www.example.com'],
      ['custom-key', 'custom-value'],
    ]);
  });

  test('C.6: responses evict from a table of 256 bytes', () => {
    const decoder = new HpackDecoder(bounds);
    decoder.decode(hex('3fe1 01'));
    expect(
      pairs(
        decoder,
        hex(
          '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
        ),
      ),
    ).toEqual([
      [':status', '302'],
      ['cache-control', 'private'],
      ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['location', 'https://www.example.com'],
    ]);
    expect(pairs(decoder, hex('4883 640e ffc1 c0bf'))).toEqual([
      [':status', '307'],
      ['cache-control', 'private'],
      ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['location', 'https://www.example.com'],
    ]);
  });
});

describe('a hostile header block', () => {
  test.each([
    ['an index beyond the tables', 'ff 80 01'],
    ['index zero', '80'],
    ['an integer without end', 'ff ff ff ff ff ff 01'],
    ['a string that is cut short', '00 05 61 62'],
    ['nothing behind a literal', '00'],
    ['a table larger than we allow', '3f e2 1f'],
    ['a table size behind a field', '82 20'],
    ['Huffman padding of more than seven bits', '00 81 ff ff'],
    ['Huffman padding that is not all ones', '00 81 00 00'],
  ])('%s is refused', (_, block) => {
    expect(() => new HpackDecoder(bounds).decode(hex(block))).toThrow(HpackError);
  });

  test('a bomb of references to one large entry is refused', () => {
    const decoder = new HpackDecoder(bounds);
    const large = Buffer.concat([hex('40 01 61 7f 81 1e'), Buffer.alloc(3968, 'x')]);
    expect(decoder.decode(large).fields).toHaveLength(2);
    expect(() => decoder.decode(Buffer.alloc(1000, 0xbe))).toThrow('too long');
  });

  test('the end-of-string code inside a string is refused', () => {
    expect(decodeHuffman(hex('ff ff ff ff'), 0, 4)).toBeUndefined();
  });

  test('a list above the bound is told, ends before it, and leaves the table in step', () => {
    const small = new HpackDecoder({ maxListBytes: 100, maxFields: 3 });
    // Three fields of 34 bytes by their names: the third is over the bound, and is kept in the table all the same.
    const block = hex('40 01 61 01 62 40 01 63 01 64 40 01 65 01 66');
    expect(small.decode(block)).toEqual({ fields: ['a', 'b', 'c', 'd'], tooLarge: true });
    expect(small.decode(hex('be'))).toEqual({ fields: ['e', 'f'], tooLarge: false });
    expect(small.decode(hex('82 82')).tooLarge).toBe(false);
    const many = new HpackDecoder({ maxListBytes: 1000, maxFields: 3 });
    expect(many.decode(hex('82 82 82 82'))).toMatchObject({ tooLarge: true });
    expect(() => many.decode(Buffer.alloc(13, 0x82))).toThrow('too long');
  });
});
