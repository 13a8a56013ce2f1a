import { frame, literal, preface } from './frames.ts';

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

// :method GET, :scheme http, then a path and an authority as literals.
export const get = Buffer.concat([
  Buffer.from([0x82, 0x86]),
  literal(':path', '/'),
  literal(':authority', 'shop.test'),
]);
const post = Buffer.concat([Buffer.from([0x83, 0x86]), get.subarray(2)]);
export const big = Buffer.concat([
  Buffer.from([0x82, 0x86]),
  literal(':path', '/big'),
  literal(':authority', 'shop.test'),
]);
export const times = (count: number, one: Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => one));
/** Streams of their own for each round. */
export const streams = (count: number, one: (stream: number) => Buffer) => (round: number) =>
  Buffer.concat(Array.from({ length: count }, (_, index) => one((round * count + index) * 2 + 1)));
const open = frame(1, 0x4, 1, post);

type Flood = [
  name: string,
  begin: Buffer,
  again: (round: number) => Buffer | undefined,
  how?: { readonly reads?: boolean; readonly pauseMs?: number },
];

/** Floods of HTTP/2: what begins one, and what it goes on with (security.md T14). */
export const floods: readonly Flood[] = [
  [
    'rapid reset',
    preface,
    streams(100, (id) => Buffer.concat([frame(1, 5, id, get), frame(3, 0, id, number(8))])),
  ],
  [
    'streams that make us reset them',
    preface,
    streams(50, (id) => Buffer.concat([frame(1, 4, id, post), frame(8, 0, id, number(0))])),
  ],
  [
    'streams whose window overflows',
    preface,
    streams(50, (id) =>
      Buffer.concat([frame(1, 4, id, post), frame(8, 0, id, number(2 ** 31 - 1))]),
    ),
  ],
  [
    'CONTINUATION',
    Buffer.concat([preface, frame(1, 0, 1, get)]),
    () => times(50, frame(9, 0, 1, literal('a', 'b'))),
  ],
  [
    'empty CONTINUATION',
    Buffer.concat([preface, frame(1, 0, 1, get)]),
    () => times(50, frame(9, 0, 1, Buffer.alloc(0))),
  ],
  ['SETTINGS', preface, () => times(50, frame(4, 0, 0, Buffer.alloc(0)))],
  [
    'SETTINGS whose answers nobody reads',
    preface,
    () => times(50, frame(4, 0, 0, Buffer.alloc(0))),
    { reads: false },
  ],
  ['PING', preface, () => times(50, frame(6, 0, 0, Buffer.alloc(8)))],
  [
    'PRIORITY',
    preface,
    () => times(50, frame(2, 0, 3, Buffer.concat([number(0), Buffer.from([1])]))),
  ],
  ['empty DATA', Buffer.concat([preface, open]), () => times(50, frame(0, 0, 1, Buffer.alloc(0)))],
  [
    'padded empty DATA',
    Buffer.concat([preface, open]),
    () => times(50, frame(0, 8, 1, Buffer.from([0]))),
  ],
  ['WINDOW_UPDATE by one', preface, () => times(50, frame(8, 0, 0, number(1)))],
  ['a connection window that overflows', preface, () => frame(8, 0, 0, number(2 ** 31 - 1))],
  ['frames of unknown types', preface, () => times(50, frame(0xbb, 0, 0, Buffer.alloc(3)))],
  [
    'resets of streams that are over',
    Buffer.concat([preface, frame(1, 5, 1, get)]),
    () => times(50, frame(3, 0, 1, number(8))),
  ],
  [
    'stream numbers that go down',
    Buffer.concat([preface, frame(1, 5, 101, get)]),
    (round) => frame(1, 5, Math.max(1, 99 - round * 2), get),
  ],
  ['an even stream', preface, () => frame(1, 5, 2, get)],
  ['PUSH_PROMISE', preface, () => frame(5, 4, 1, Buffer.concat([number(2), get]))],
  ['malformed header blocks', preface, () => frame(1, 5, 1, Buffer.alloc(20, 0xff))],
  ['requests that are none', preface, streams(50, (id) => frame(1, 5, id, Buffer.from([0x82])))],
  [
    'a field table that is made and made again',
    preface,
    streams(20, (id) =>
      frame(1, 5, id, Buffer.concat([Buffer.from([0x3f, 0xe1, 0xff, 0xff, 0x7f]), get])),
    ),
  ],
];
