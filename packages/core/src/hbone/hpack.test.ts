import { describe, expect, test } from '@jest/globals';
import { HpackDecoder, HpackError, encodeHeaders } from './hpack.ts';
import { decodeHuffman } from './huffman.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('HPACK, by the examples of RFC 7541 Appendix C', () => {
  test('C.4: requests with Huffman coding share one dynamic table', () => {
    const decoder = new HpackDecoder();
    expect(decoder.decode(hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'))).toEqual([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ]);
    expect(decoder.decode(hex('8286 84be 5886 a8eb 1064 9cbf'))).toEqual([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
      ['cache-control', 'no-cache'],
    ]);
    expect(
      decoder.decode(hex('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf')),
    ).toEqual([
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/index.html'],
      [':authority', 'www.example.com'],
      ['custom-key', 'custom-value'],
    ]);
  });

  test('C.6: responses evict from a table of 256 bytes', () => {
    const decoder = new HpackDecoder();
    decoder.decode(hex('3fe1 01'));
    expect(
      decoder.decode(
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
    expect(decoder.decode(hex('4883 640e ffc1 c0bf'))).toEqual([
      [':status', '307'],
      ['cache-control', 'private'],
      ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['location', 'https://www.example.com'],
    ]);
  });

  test('every byte value survives our own encoding', () => {
    const value = Buffer.from(Array.from({ length: 256 }, (_, index) => index)).toString('latin1');
    const fields = [
      [':status', '200'],
      [':status', '401'],
      ['baggage', value],
      ['x', 'y'.repeat(300)],
    ] as const;
    expect(new HpackDecoder().decode(encodeHeaders(fields))).toEqual(fields);
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
    expect(() => new HpackDecoder().decode(hex(block))).toThrow(HpackError);
  });

  test('a bomb of references to one large entry is refused', () => {
    const decoder = new HpackDecoder();
    const large = Buffer.concat([hex('40 01 61 7f 81 1e'), Buffer.alloc(3968, 'x')]);
    expect(decoder.decode(large)).toHaveLength(1);
    expect(() => decoder.decode(Buffer.alloc(1000, 0xbe))).toThrow('too long');
  });

  test('the end-of-string code inside a string is refused', () => {
    expect(decodeHuffman(hex('ff ff ff ff'), 100)).toBeUndefined();
  });
});
