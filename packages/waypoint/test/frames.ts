/** Frames of HTTP/2 byte by byte, for what no client of good will would send. */
export function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A field as a literal that is not kept. */
export function literal(name: string, value: string): Buffer {
  const part = (text: string): Buffer => {
    const bytes = Buffer.from(text, 'latin1');
    const length =
      bytes.length < 127
        ? Buffer.from([bytes.length])
        : Buffer.from([
            127,
            ((bytes.length - 127) & 0x7f) | 0x80,
            (((bytes.length - 127) >> 7) & 0x7f) | 0x80,
            (bytes.length - 127) >> 14,
          ]);
    return Buffer.concat([length, bytes]);
  };
  return Buffer.concat([Buffer.from([0x00]), part(name), part(value)]);
}

export const preface = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(4, 0, 0, Buffer.alloc(0)),
]);
