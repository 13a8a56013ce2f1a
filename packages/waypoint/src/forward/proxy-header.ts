import type { IpAddress, SocketAddress } from '@ambit/api';
import { familyOf, ipBytes, parseSocketAddress } from '@ambit/api';
import type { Client } from './endpoint.ts';

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const versionAndProxy = 0x21;
const versionAndLocal = 0x20;
const tcp4 = 0x11;
const tcp6 = 0x21;

/** The header for a client; one without an address is the proxy itself. */
export function headerFor(version: 'v1' | 'v2', client: Client): Buffer {
  const { source } = client;
  const called = calledAddress(client);
  if (source !== undefined && called !== undefined) return proxyHeader(version, source, called);
  return version === 'v1'
    ? Buffer.from('PROXY UNKNOWN\r\n', 'latin1')
    : Buffer.concat([signature, Buffer.from([versionAndLocal, 0, 0, 0])]);
}

/**
 * The PROXY protocol's header, which tells an endpoint who the client is and what it called (HAProxy's specification,
 * versions 1 and 2). Where only one of both is of IPv4, it is written as an address of IPv6.
 */
export function proxyHeader(version: 'v1' | 'v2', from: SocketAddress, to: SocketAddress): Buffer {
  const four = familyOf(from.ip) === 'IPv4' && familyOf(to.ip) === 'IPv4';
  if (version === 'v1') {
    const written = (ip: IpAddress): string =>
      four || familyOf(ip) === 'IPv6' ? ip : `::ffff:${ip}`;
    const family = four ? 'TCP4' : 'TCP6';
    return Buffer.from(
      `PROXY ${family} ${written(from.ip)} ${written(to.ip)} ${from.port} ${to.port}\r\n`,
      'latin1',
    );
  }
  const addresses = Buffer.concat([from, to].map(({ ip }) => (four ? ipBytes(ip) : sixteen(ip))));
  const head = Buffer.alloc(4);
  head.writeUInt8(versionAndProxy, 0);
  head.writeUInt8(four ? tcp4 : tcp6, 1);
  head.writeUInt16BE(addresses.length + 4, 2);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(from.port, 0);
  ports.writeUInt16BE(to.port, 2);
  return Buffer.concat([signature, head, addresses, ports]);
}

const mapped = Buffer.from('00000000000000000000ffff', 'hex');

function sixteen(ip: IpAddress): Uint8Array {
  const bytes = ipBytes(ip);
  return bytes.length === 16 ? bytes : Buffer.concat([mapped, bytes]);
}

/** What the client called: the address in its tunnel's authority, or where it reached us. */
export function calledAddress({ authority, local }: Client): SocketAddress | undefined {
  const address = parseSocketAddress(authority);
  return address.ok ? address.value : local;
}
