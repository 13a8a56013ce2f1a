import type { HeaderList } from './headers.ts';

/** What a proxy says of a client. Whoever else writes it is not believed. */
const names: ReadonlySet<string> = new Set([
  'x-forwarded-client-cert',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
]);

/** Names that only the proxy may write: it takes them away, then sets those that it knows something of. */
export function isVouched(name: string): boolean {
  // Almost every name is done with here.
  if (name.charCodeAt(0) !== 0x78 || name.charCodeAt(1) !== 0x2d) return false;
  return names.has(name) || name.startsWith('x-envoy-') || name.startsWith('x-ambit-');
}

/** Names that frame a message or identify a request. */
const alsoNoTwin: ReadonlySet<string> = new Set([
  'content-length',
  'transfer-encoding',
  'x-request-id',
]);

/** Many servers read `_` as `-`: a twin of what the proxy vouches for would speak in its place. */
export function isTwin(name: string): boolean {
  if (!name.includes('_')) return false;
  const dashed = fold(name);
  return isVouched(dashed) || alsoNoTwin.has(dashed);
}

/** As who takes `_` for `-` reads a name. */
export function fold(name: string): string {
  return name.includes('_') ? name.replaceAll('_', '-') : name;
}

/** Fields that frame, route or vouch, and so have no place after the body (RFC 9110 §6.5.1). */
const notTrailers: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'trailer',
  'connection',
  'authorization',
  'cookie',
  'set-cookie',
  'te',
  'upgrade',
  'expect',
]);

export function mayBeTrailer(name: string): boolean {
  return !notTrailers.has(name) && !isVouched(name);
}

/** What the proxy knows of a request's client. */
export interface Client {
  readonly ip: string;
  readonly scheme: string;
  /** Value of `x-forwarded-client-cert`; none is sent without it. */
  readonly certificate: string | undefined;
  /** Its `x-forwarded-*` are kept, because it is a proxy that the mesh trusts. */
  readonly trusted: boolean;
}

/** Takes away what only a proxy may say and says it anew, before anything is decided by it. */
export function sayWhoCalls(headers: HeaderList, client: Client): void {
  const kept = client.trusted ? told(headers) : undefined;
  headers.deleteWhere(isVouched);
  if (client.certificate !== undefined) {
    headers.append('x-forwarded-client-cert', client.certificate);
  }
  const before = kept?.for ?? '';
  headers.append('x-forwarded-for', before === '' ? client.ip : `${before}, ${client.ip}`);
  headers.append('x-forwarded-proto', kept?.proto ?? client.scheme);
  if (kept?.host !== undefined) headers.append('x-forwarded-host', kept.host);
}

function told(headers: HeaderList): {
  readonly for: string;
  readonly proto: string | undefined;
  readonly host: string | undefined;
} {
  const proto = headers.get('x-forwarded-proto')?.toLowerCase();
  return {
    for: headers.all('x-forwarded-for').join(', '),
    proto: proto === 'http' || proto === 'https' ? proto : undefined,
    host: headers.get('x-forwarded-host'),
  };
}

/** The original client as a trusted proxy tells it: the last one that it added, before its own address. */
export function toldClient(headers: HeaderList): string | undefined {
  return headers.all('x-forwarded-for').join(',').split(',').at(-2)?.trim();
}
