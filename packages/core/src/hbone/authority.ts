import type { Hostname, IpAddress, Port, Result } from '@ambit/api';
import { err, familyOf, ok, parseHostname, parseIp, parsePort } from '@ambit/api';

/** Whom a CONNECT asks for: an address, or a service by name (contracts.md §5). */
export type Authority =
  | { readonly kind: 'address'; readonly ip: IpAddress; readonly port: Port }
  | { readonly kind: 'hostname'; readonly hostname: Hostname; readonly port: Port };

export interface AuthorityRejected {
  readonly code: 'hbone/bad-authority';
  readonly message: string;
}

const maxLength = 261; // a name of 253, a colon, a port, and brackets

/** Accepts the one canonical spelling of each authority and nothing else: no user info, no mapped or zoned address. */
export function parseAuthority(text: string): Result<Authority, AuthorityRejected> {
  const rejected = err({
    code: 'hbone/bad-authority',
    message: `${JSON.stringify(text.slice(0, 100))} is no authority of the form IP:PORT, [IPv6]:PORT or HOST:PORT`,
  } as const);
  const parts =
    text.length <= maxLength
      ? /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+)):([1-9]\d{0,4})$/.exec(text)
      : null;
  const [, v6, host, portText = ''] = parts ?? [];
  const port = parsePort(portText);
  if (!port.ok) return rejected;
  const ip = parseIp(v6 ?? host ?? '');
  if (ip.ok) {
    const canonical =
      ip.value === (v6 ?? host) && (familyOf(ip.value) === 'IPv6') === (v6 !== undefined);
    return canonical ? ok({ kind: 'address', ip: ip.value, port: port.value }) : rejected;
  }
  if (host === undefined || /^[\d.]+$/.test(host)) return rejected;
  const hostname = parseHostname(host);
  return hostname.ok
    ? ok({ kind: 'hostname', hostname: hostname.value, port: port.value })
    : rejected;
}

export function formatAuthority(authority: Authority): string {
  if (authority.kind === 'hostname') return `${authority.hostname}:${authority.port}`;
  const { ip, port } = authority;
  return familyOf(ip) === 'IPv6' ? `[${ip}]:${port}` : `${ip}:${port}`;
}
