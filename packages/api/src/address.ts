import type { Brand } from './brand.ts';
import type { Result } from './result.ts';
import { err, ok } from './result.ts';

/** An IPv4 or IPv6 address in its one canonical spelling (RFC 5952 for IPv6), so that equality is `===`. */
export type IpAddress = Brand<string, 'IpAddress'>;
/** A TCP port, 1 to 65535. */
export type Port = Brand<number, 'Port'>;
export type IpFamily = 'IPv4' | 'IPv6';

export interface SocketAddress {
  readonly ip: IpAddress;
  readonly port: Port;
}

/** A range of addresses; `ip` has no host bits. */
export interface Cidr {
  readonly ip: IpAddress;
  readonly prefixLength: number;
}

export interface AddressRejected {
  readonly code: 'address/not-an-ip' | 'address/not-a-port' | 'address/not-a-cidr';
  readonly message: string;
}

const ipv4Form = /^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/;
const groupForm = /^[0-9a-f]{1,4}$/i;

export function familyOf(ip: IpAddress): IpFamily {
  return ip.includes(':') ? 'IPv6' : 'IPv4';
}

/**
 * Parses an address; an IPv4-mapped IPv6 address becomes the IPv4 address it stands for, because that is
 * what a dual-stack socket means by it. Zones (`%eth0`) are refused.
 */
export function parseIp(text: string): Result<IpAddress, AddressRejected> {
  const bytes = text.length <= 45 ? (ipv4Bytes(text) ?? ipv6Bytes(text)) : undefined;
  if (bytes === undefined) {
    return err({
      code: 'address/not-an-ip',
      message: `${JSON.stringify(text.slice(0, 100))} is no IP address`,
    });
  }
  return ok(formatBytes(bytes));
}

/** The 4 or 16 bytes of an address, in network order. */
export function ipBytes(ip: IpAddress): Uint8Array {
  const bytes = ipv4Bytes(ip) ?? ipv6Bytes(ip);
  if (bytes === undefined) throw new TypeError(`not an IP address: ${ip}`);
  return Uint8Array.from(bytes);
}

/** The address of 4 or 16 bytes in network order, an IPv4-mapped one as IPv4; undefined of any other number of bytes. */
export function ipOfBytes(bytes: Uint8Array): IpAddress | undefined {
  if (bytes.length !== 4 && bytes.length !== 16) return undefined;
  return formatBytes(unmapped([...bytes]));
}

export function parsePort(value: number | string): Result<Port, AddressRejected> {
  const text = String(value);
  const port = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return ok(port as Port);
  return err({
    code: 'address/not-a-port',
    message: `${JSON.stringify(text.slice(0, 20))} is no port: a whole number from 1 to 65535`,
  });
}

/** Parses `10.0.0.0/8`, `fd00::/8` or a single address; host bits are cleared. */
export function parseCidr(text: string): Result<Cidr, AddressRejected> {
  const rejected = err({
    code: 'address/not-a-cidr',
    message: `${JSON.stringify(text.slice(0, 100))} is no address range such as 10.0.0.0/8`,
  } as const);
  const [address = '', length, ...rest] = text.split('/');
  const ip = parseIp(address);
  if (!ip.ok || rest.length > 0) return rejected;
  const bytes = ipBytes(ip.value);
  const bits = bytes.length * 8;
  const prefixLength = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (prefixLength < 0 || prefixLength > bits) return rejected;
  const network = bytes.map((byte, index) => byte & byteMask(prefixLength, index));
  return ok({ ip: formatBytes([...network]), prefixLength });
}

export function cidrContains(range: Cidr, ip: IpAddress): boolean {
  if (familyOf(range.ip) !== familyOf(ip)) return false;
  const network = ipBytes(range.ip);
  const bytes = ipBytes(ip);
  return bytes.every(
    (byte, index) => (byte & byteMask(range.prefixLength, index)) === network[index],
  );
}

export function formatSocketAddress({ ip, port }: SocketAddress): string {
  return familyOf(ip) === 'IPv6' ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Parses `1.2.3.4:80` or `[::1]:80`. */
export function parseSocketAddress(text: string): Result<SocketAddress, AddressRejected> {
  const parts = /^(?:\[([^\]]{2,45})\]|([^:]{7,15})):(\d{1,5})$/.exec(text);
  const ip = parseIp(parts?.[1] ?? parts?.[2] ?? text);
  if (!ip.ok) return ip;
  const bracketed = parts?.[1] !== undefined;
  if (bracketed !== (familyOf(ip.value) === 'IPv6')) {
    return err({ code: 'address/not-an-ip', message: `${JSON.stringify(text)} mixes families` });
  }
  const port = parsePort(parts?.[3] ?? '');
  return port.ok ? ok({ ip: ip.value, port: port.value }) : port;
}

function byteMask(prefixLength: number, index: number): number {
  const bits = Math.max(0, Math.min(8, prefixLength - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

function ipv4Bytes(text: string): number[] | undefined {
  if (!ipv4Form.test(text)) return undefined;
  const bytes = text.split('.').map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
}

function ipv6Bytes(text: string): number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? groups(halves[1] ?? '', true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  const bytes = [...head, ...new Array<number>(Math.max(0, missing)).fill(0), ...tail];
  return unmapped(bytes);
}

function groups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (groupForm.test(part)) {
      const value = Number.parseInt(part, 16);
      bytes.push(value >> 8, value & 0xff);
      continue;
    }
    const embedded = mayEndInIpv4 && index === parts.length - 1 ? ipv4Bytes(part) : undefined;
    if (embedded === undefined) return undefined;
    bytes.push(...embedded);
  }
  return bytes;
}

function unmapped(bytes: number[]): number[] {
  const mapped =
    bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes.slice(12) : bytes;
}

function formatBytes(bytes: readonly number[]): IpAddress {
  if (bytes.length === 4) return bytes.join('.') as IpAddress;
  const words: number[] = [];
  for (let index = 0; index < 16; index += 2) {
    words.push(((bytes[index] ?? 0) << 8) | (bytes[index + 1] ?? 0));
  }
  const { start, length } = longestZeroRun(words);
  const hex = words.map((word) => word.toString(16));
  if (length < 2) return hex.join(':') as IpAddress;
  const head = hex.slice(0, start).join(':');
  const tail = hex.slice(start + length).join(':');
  return `${head}::${tail}` as IpAddress;
}

function longestZeroRun(words: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let index = 0; index <= words.length; index += 1) {
    if (words[index] === 0) continue;
    if (index - start > best.length) best = { start, length: index - start };
    start = index + 1;
  }
  return best;
}
