import { describe, expect, test } from '@jest/globals';
import { FrameMeter } from './meter.ts';

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

function frame(type: number, flags: number, length: number, stream = 0): Buffer {
  const bytes = Buffer.alloc(9 + length);
  bytes.writeUIntBE(length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  return bytes;
}

/** How many of the frames a fresh connection takes at once. */
function taken(one: Buffer, count: number, each?: (meter: FrameMeter) => void): number {
  const meter = new FrameMeter(0);
  meter.take(preface, 0);
  for (let at = 0; at < count; at += 1) {
    if (!meter.take(one, 0)) return at;
    each?.(meter);
  }
  return count;
}

/** DATA of so many bytes behind the first, the last of which are padding. */
function padding(length: number, padded: number): Buffer {
  const bytes = frame(0, 8, length);
  bytes[9] = padded;
  return bytes;
}

describe('frames that carry nothing', () => {
  test.each([
    ['SETTINGS', frame(4, 0, 0), 150],
    ['PING', frame(6, 0, 8), 750],
    ['PRIORITY', frame(2, 0, 5), 1_500],
    ['WINDOW_UPDATE', frame(8, 0, 4), 1_500],
    ['empty DATA', frame(0, 0, 0), 1_500],
    ['HEADERS of a stream that is not new', frame(1, 4, 10), 100],
    ['DATA of padding alone', padding(3, 2), 1_500],
    ['an unknown type', frame(99, 0, 3), 1_500],
  ])('%s: a burst is taken, a flood is not', (_name, one, burst) => {
    expect(taken(one, 10_000)).toBe(burst);
  });

  test('HEADERS of new streams, up to as many as may be opened in a moment', () => {
    const meter = new FrameMeter(0);
    meter.take(preface, 0);
    let count = 0;
    while (meter.take(frame(1, 4, 10, count * 2 + 1), 0)) count += 1;
    expect(count).toBe(1_500);
  });

  test('DATA that carries or ends is free', () => {
    expect(taken(padding(4, 2), 10_000)).toBe(10_000);
    expect(taken(frame(0, 0, 5), 10_000)).toBe(10_000);
    expect(taken(frame(0, 1, 0), 10_000)).toBe(10_000);
  });

  test('a client whose requests are answered may go on', () => {
    expect(
      taken(Buffer.concat([frame(1, 4, 10), frame(6, 0, 8), frame(8, 0, 4)]), 10_000, (meter) => {
        meter.answered();
      }),
    ).toBe(10_000);
  });

  test('however the bytes are cut', () => {
    const bytes = Buffer.concat([preface, ...Array.from({ length: 151 }, () => frame(4, 0, 6))]);
    for (const size of [1, 2, 7, 9, 10, 1_000]) {
      const meter = new FrameMeter(0);
      let good = true;
      for (let at = 0; at < bytes.length; at += size) {
        good = meter.take(bytes.subarray(at, at + size), 0) && good;
        if (at + size < bytes.length - 15) expect(good).toBe(true);
      }
      expect(good).toBe(false);
    }
  });

  test('resets are dear', () => {
    const meter = new FrameMeter(0);
    let count = 0;
    while (meter.reset(0)) count += 1;
    expect(count).toBe(300);
  });
});

describe('what is there in part', () => {
  test('the preface, a header block and a control frame are waited for; the rest of a body is not', () => {
    const meter = new FrameMeter(0);
    expect(meter.unfinishedSinceMs).toBe(0);
    meter.take(preface, 10);
    expect(meter.unfinishedSinceMs).toBeUndefined();
    meter.take(frame(1, 0, 4), 20);
    expect(meter.unfinishedSinceMs).toBe(20);
    meter.take(frame(9, 0, 4), 30);
    expect(meter.unfinishedSinceMs).toBe(20);
    meter.take(frame(9, 4, 4), 40);
    expect(meter.unfinishedSinceMs).toBeUndefined();
    meter.take(frame(0, 0, 100).subarray(0, 50), 50);
    expect(meter.unfinishedSinceMs).toBeUndefined();
  });

  test('a frame that drips is timed from its own first byte', () => {
    const meter = new FrameMeter(0);
    meter.take(preface, 0);
    const two = Buffer.concat([frame(6, 0, 8), frame(6, 0, 8)]);
    for (let at = 0; at < two.length - 1; at += 1) meter.take(two.subarray(at, at + 1), at);
    expect(meter.unfinishedSinceMs).toBe(17);
  });
});
