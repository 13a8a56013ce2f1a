/** The server name of a ClientHello (RFC 8446 §4.1.2, RFC 6066 §3); undefined where none is to be found in these bytes. */
export function serverNameOf(bytes: Buffer): string | undefined {
  try {
    return read(bytes);
  } catch {
    return undefined;
  }
}

const handshake = 0x16;
const clientHello = 1;
const serverName = 0;

function read(bytes: Buffer): string | undefined {
  if (bytes[0] !== handshake || bytes[5] !== clientHello) return undefined;
  let at = 5 + 4 + 2 + 32;
  at += 1 + bytes.readUInt8(at);
  at += 2 + bytes.readUInt16BE(at);
  at += 1 + bytes.readUInt8(at);
  const end = at + 2 + bytes.readUInt16BE(at);
  at += 2;
  while (at + 4 <= end) {
    const type = bytes.readUInt16BE(at);
    const length = bytes.readUInt16BE(at + 2);
    if (type !== serverName) {
      at += 4 + length;
      continue;
    }
    const name = bytes.toString('latin1', at + 9, at + 9 + bytes.readUInt16BE(at + 7));
    return /^[A-Za-z0-9._-]{1,255}$/.test(name) ? name.toLowerCase() : undefined;
  }
  return undefined;
}
