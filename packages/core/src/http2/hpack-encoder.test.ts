import { describe, expect, test } from '@jest/globals';
import { HpackDecoder } from './hpack-decoder.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import { dynamicTableBytes } from './hpack-table.ts';

const bounds = { maxListBytes: 1024 * 1024, maxFields: 1000 };

describe('what was encoded is decoded as it was', () => {
  test('every byte value, and strings long and short', () => {
    const value = Buffer.from(Array.from({ length: 256 }, (_, index) => index)).toString('latin1');
    const fields = [
      ...[':status', '200', ':status', '401', 'baggage', value, 'x', 'y'.repeat(300)],
      ...['cookie', '', 'z', 'w'.repeat(20_000)],
    ];
    for (const tableBytes of [0, dynamicTableBytes]) {
      const encoder = new HpackEncoder(tableBytes);
      const decoder = new HpackDecoder(bounds);
      for (let round = 0; round < 3; round += 1) {
        expect(decoder.decode(encoder.encode(fields)).fields).toEqual(fields);
      }
    }
  });

  test('ten thousand blocks of fields that come again, with tables that shrink', () => {
    const encoder = new HpackEncoder(dynamicTableBytes);
    const decoder = new HpackDecoder(bounds);
    let seed = 7;
    const below = (limit: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 1;
      return (seed >>> 8) % limit;
    };
    const names = [':path', ':status', 'accept', 'authorization', 'date', 'x-a', 'x-b', 'x-c'];
    for (let round = 0; round < 10_000; round += 1) {
      const fields: string[] = [];
      for (let left = below(12); left > 0; left -= 1) {
        fields.push(names[below(names.length)] ?? '', 'v'.repeat(below(120)) + String(below(30)));
      }
      if (round % 2_000 === 1_999) encoder.bound(4_000 - round / 3);
      expect(decoder.decode(encoder.encode(fields)).fields).toEqual(fields);
    }
  });
});

describe('the table', () => {
  test('what comes again takes a byte', () => {
    const encoder = new HpackEncoder(dynamicTableBytes);
    const fields = [':method', 'GET', ':authority', 'reviews.shop', 'user-agent', 'curl/8'];
    const first = encoder.encode(fields).length;
    expect(first).toBeGreaterThan(20);
    expect(encoder.encode(fields)).toHaveLength(3);
  });

  test('secrets are never kept, and say so', () => {
    const encoder = new HpackEncoder(dynamicTableBytes);
    for (let round = 0; round < 2; round += 1) {
      // 0x1f: a literal that nobody on the way may index either.
      expect(encoder.encode(['cookie', 'a=b'])[0]).toBe(0x1f);
      expect(encoder.encode(['authorization', 'Bearer x'])[0]).toBe(0x1f);
    }
  });

  test('no table of the peer, no entry of ours', () => {
    const encoder = new HpackEncoder(dynamicTableBytes);
    encoder.encode(['x-a', 'b']);
    encoder.bound(0);
    // The first block says it, RFC 7541 §4.2.
    expect(encoder.encode(['x-a', 'b'])[0]).toBe(0x20);
    expect(encoder.encode(['x-a', 'b']).subarray(0, 1)).toEqual(Buffer.from([0x00]));
  });
});
