/** A ClientHello is not longer than this, or nobody's. */
export const maxHelloBytes = 16 * 1024 + 5;
const handshakeRecord = 0x16;
const clientHello = 1;
const serverName = 0;
const nameForm = /^[A-Za-z0-9._-]{1,255}$/;

/**
 * The server name of a ClientHello (RFC 8446 §4.1.2, RFC 6066 §3); `more` while it is not whole, and undefined where
 * none is to be found. It may come in several records and in any pieces: with post-quantum keys it fills two packets.
 */
export function serverNameOf(bytes: Buffer): { readonly name: string | undefined } | 'more' {
  const message = handshakeOf(bytes);
  if (message.length < 4) return message.over ? noName : 'more';
  if (message.bytes[0] !== clientHello) return noName;
  const length = message.bytes.readUIntBE(1, 3);
  if (length > maxHelloBytes) return noName;
  if (message.length < length + 4) return message.over ? noName : 'more';
  try {
    return { name: read(message.bytes.subarray(4, length + 4)) };
  } catch {
    return noName;
  }
}

const noName = { name: undefined } as const;

/** What the handshake records at the beginning hold together. */
function handshakeOf(bytes: Buffer): { bytes: Buffer; length: number; over: boolean } {
  const parts: Buffer[] = [];
  let at = 0;
  while (at + 5 <= bytes.length && bytes[at] === handshakeRecord) {
    const length = bytes.readUInt16BE(at + 3);
    parts.push(bytes.subarray(at + 5, at + 5 + length));
    at += 5 + length;
  }
  const whole = parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
  const over =
    (at < bytes.length && bytes[at] !== handshakeRecord) || bytes.length >= maxHelloBytes;
  return { bytes: whole, length: whole.length, over };
}

function read(hello: Buffer): string | undefined {
  let at = 2 + 32;
  at += 1 + hello.readUInt8(at);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + hello.readUInt8(at);
  const end = at + 2 + hello.readUInt16BE(at);
  at += 2;
  while (at + 4 <= end) {
    const type = hello.readUInt16BE(at);
    const length = hello.readUInt16BE(at + 2);
    if (type !== serverName) {
      at += 4 + length;
      continue;
    }
    const name = hello.toString('latin1', at + 9, at + 9 + hello.readUInt16BE(at + 7));
    return nameForm.test(name) ? name.toLowerCase() : undefined;
  }
  return undefined;
}
