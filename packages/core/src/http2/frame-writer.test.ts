import { describe, expect, test } from '@jest/globals';
import { FrameReader } from './frame-reader.ts';
import { FrameWriter } from './frame-writer.ts';
import { frameType, rstStreamFrame, windowUpdateFrame } from './frames.ts';

function taken(writer: FrameWriter): Buffer[] {
  const pieces: Buffer[] = [];
  writer.take((bytes) => pieces.push(bytes));
  return pieces;
}

/** What a peer makes of it: each frame as one line. */
function read(pieces: readonly Buffer[]): string[] {
  const lines: string[] = [];
  let payload = '';
  const reader = new FrameReader(
    false,
    { maxFrameBytes: 1024 * 1024, maxBlockBytes: 1024 },
    {
      frame: ({ type, stream }) => lines.push(`type ${type} on ${stream}`),
      data: (_stream, chunk) => (payload += chunk.toString()),
      dataEnd: (stream, flags, length) => {
        lines.push(`data ${length} on ${stream}${(flags & 1) === 1 ? ' end' : ''}: ${payload}`);
        payload = '';
      },
      headers: () => lines.push('headers'),
      headersBegun: () => undefined,
      settled: () => undefined,
      violation: (_code, why) => lines.push(why),
    },
  );
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  for (const piece of [settings, ...pieces]) reader.push(piece);
  return lines.slice(1);
}

describe('frames of one turn', () => {
  test('what a stream writes in a row is one frame, and leaves in one piece with the others', () => {
    const writer = new FrameWriter();
    writer.data(1, Buffer.from('ab'), false, 100);
    writer.data(1, Buffer.from('cd'), false, 100);
    writer.data(3, Buffer.from('x'), true, 100);
    writer.data(1, Buffer.from('ef'), false, 100);
    writer.data(1, Buffer.alloc(0), true, 100);
    const pieces = taken(writer);
    expect(pieces).toHaveLength(1);
    expect(read(pieces)).toEqual([
      'data 4 on 1: abcd',
      'data 1 on 3 end: x',
      'data 2 on 1 end: ef',
    ]);
    expect(writer.empty).toBe(true);
  });

  test('another frame between keeps its place', () => {
    const writer = new FrameWriter();
    writer.data(1, Buffer.from('ab'), false, 100);
    writer.frame(windowUpdateFrame(1, 5));
    writer.data(1, Buffer.from('cd'), false, 100);
    writer.frame(rstStreamFrame(1, 8));
    expect(read(taken(writer))).toEqual([
      'data 2 on 1: ab',
      `type ${frameType.windowUpdate} on 1`,
      'data 2 on 1: cd',
      `type ${frameType.rstStream} on 1`,
    ]);
  });

  test('a frame is no longer than the peer takes', () => {
    const writer = new FrameWriter();
    for (let at = 0; at < 5; at += 1) writer.data(1, Buffer.from('abc'), at === 4, 7);
    expect(read(taken(writer))).toEqual([
      'data 6 on 1: abcabc',
      'data 6 on 1: abcabc',
      'data 3 on 1 end: abc',
    ]);
  });

  test('what is taken later is not what was taken before', () => {
    const writer = new FrameWriter();
    writer.data(1, Buffer.from('ab'), false, 100);
    const first = taken(writer);
    writer.data(1, Buffer.from('cd'), false, 100);
    expect(read(first)).toEqual(['data 2 on 1: ab']);
    expect(read(taken(writer))).toEqual(['data 2 on 1: cd']);
    expect(taken(writer)).toEqual([]);
  });

  test('much of it leaves in several pieces, none of them large', () => {
    const writer = new FrameWriter();
    for (let at = 0; at < 20; at += 1) {
      writer.data(at * 2 + 1, Buffer.alloc(60_000, 0x61), true, 100_000);
    }
    const pieces = taken(writer);
    expect(pieces.length).toBeGreaterThan(3);
    expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThanOrEqual(256 * 1024);
    expect(read(pieces)).toHaveLength(20);
  });
});
