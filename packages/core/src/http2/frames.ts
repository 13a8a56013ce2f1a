/** Frame types of RFC 9113 §6. */
export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = {
  endStream: 0x1,
  ack: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const;

export const errorCode = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  connect: 10,
  enhanceYourCalm: 11,
} as const;

export const setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const headerBytes = 9;
export const defaultWindow = 65_535;
export const maxWindow = 0x7fff_ffff;
export const defaultFrameBytes = 16_384;

export interface FrameHeader {
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
}

export function readFrameHeader(bytes: Buffer, at: number): FrameHeader {
  return {
    length: ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0),
    type: bytes[at + 3] ?? 0,
    flags: bytes[at + 4] ?? 0,
    stream: bytes.readUInt32BE(at + 5) & 0x7fff_ffff,
  };
}

/** Writes a frame's header and returns where its payload begins. */
export function writeFrameHeader(
  into: Buffer,
  at: number,
  { length, type, flags, stream }: FrameHeader,
): number {
  into[at] = length >>> 16;
  into[at + 1] = length >>> 8;
  into[at + 2] = length;
  into[at + 3] = type;
  into[at + 4] = flags;
  into[at + 5] = stream >>> 24;
  into[at + 6] = stream >>> 16;
  into[at + 7] = stream >>> 8;
  into[at + 8] = stream;
  return at + headerBytes;
}

export function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const whole = Buffer.allocUnsafe(headerBytes + payload.length);
  payload.copy(whole, writeFrameHeader(whole, 0, { length: payload.length, type, flags, stream }));
  return whole;
}

export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(settings.length * 6);
  for (const [index, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  }
  return frame(frameType.settings, 0, 0, payload);
}

export function windowUpdateFrame(stream: number, increment: number): Buffer {
  return frame(frameType.windowUpdate, 0, stream, uint32(increment));
}

export function rstStreamFrame(stream: number, code: number): Buffer {
  return frame(frameType.rstStream, 0, stream, uint32(code));
}

export function goawayFrame(lastStream: number, code: number, reason: string): Buffer {
  return frame(
    frameType.goaway,
    0,
    0,
    Buffer.concat([uint32(lastStream), uint32(code), Buffer.from(reason)]),
  );
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Takes padding (and, of HEADERS, the priority fields) off a payload; undefined where they do not fit. */
export function stripPadding(payload: Buffer, flags: number, type: number): Buffer | undefined {
  let from = 0;
  let to = payload.length;
  if ((flags & flag.padded) !== 0) {
    to -= payload[0] ?? 0;
    from = 1;
  }
  if (type === frameType.headers && (flags & flag.priority) !== 0) from += 5;
  return from <= to ? payload.subarray(from, to) : undefined;
}
