import type { SocketAddress } from '@ambit/api';
import { familyOf, ipBytes, ipOfBytes, parsePort } from '@ambit/api';

export const AF_INET = 2;
export const AF_INET6 = 10;

/** `struct sockaddr_in` or `sockaddr_in6`; port 0 lets the kernel choose. */
export function encodeSocketAddress(ip: SocketAddress['ip'], port: number): Buffer {
  const v6 = familyOf(ip) === 'IPv6';
  const bytes = Buffer.alloc(v6 ? 28 : 16);
  bytes.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  Buffer.from(ipBytes(ip)).copy(bytes, v6 ? 8 : 4);
  return bytes;
}

/** Reads what the kernel wrote; undefined where it is no address of a TCP peer. */
export function decodeSocketAddress(bytes: Buffer): SocketAddress | undefined {
  const v6 = bytes.readUInt16LE(0) === AF_INET6;
  const port = parsePort(bytes.readUInt16BE(2));
  const ip = ipOfBytes(v6 ? bytes.subarray(8, 24) : bytes.subarray(4, 8));
  return ip !== undefined && port.ok ? { ip, port: port.value } : undefined;
}
