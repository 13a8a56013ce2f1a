import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { HeaderList } from '../http/headers.ts';
import { HttpError } from '../http/message.ts';
import { isTwin, mayBeTrailer } from '../http/vouched.ts';

/** Fields of a connection that HTTP/2 does not have; a message that carries one is malformed (RFC 9113 §8.2.2). */
const forbidden: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const inName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const notInValue = /[^\t\x20-\x7e\x80-\xff]/;

/** The fields of a block as they came, one by one and in order; nghttp2 has checked frames, this checks meaning. */
export function fieldsOf(raw: readonly string[]): HeaderList {
  const headers = new HeaderList();
  const cookies: string[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    const value = raw[at + 1] ?? '';
    if (name.startsWith(':')) continue;
    if (!inName.test(name) || forbidden.has(name) || isTwin(name)) {
      throw new HttpError(
        'http2/malformed',
        400,
        `a field ${JSON.stringify(name.slice(0, 60))} in HTTP/2`,
      );
    }
    if (notInValue.test(value))
      throw new HttpError('http2/malformed', 400, 'a value with a control character');
    if (name === 'te' && value !== 'trailers') continue;
    if (name === 'cookie') cookies.push(value);
    else headers.append(name, value);
  }
  // Crumbs of one cookie line become one line again for whoever reads HTTP/1.1 (RFC 9113 §8.2.3).
  if (cookies.length > 0) headers.append('cookie', cookies.join('; '));
  return headers;
}

/** The fields after a body, of which none may frame, route or vouch. */
export function trailersOf(raw: readonly string[]): HeaderList {
  const trailers = fieldsOf(raw);
  for (const [name] of trailers) {
    if (!mayBeTrailer(name)) {
      throw new HttpError('http2/malformed', 400, `${name} may not be a trailer`);
    }
  }
  return trailers;
}

/** As Node wants fields: a repeated name as a list. */
export function nodeHeaders(headers: HeaderList): OutgoingHttpHeaders {
  const out = Object.create(null) as Record<string, string | string[]>;
  for (const [name, value] of headers) {
    if (forbidden.has(name)) continue;
    const known = out[name];
    if (known === undefined) out[name] = value;
    else if (typeof known === 'string') out[name] = [known, value];
    else known.push(value);
  }
  return out;
}

/** The raw list that Node hands out beside the object it makes of it. */
export function rawOf(headers: IncomingHttpHeaders): string[] {
  const raw: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (Array.isArray(value)) for (const one of value) raw.push(name, one);
    else if (value !== undefined) raw.push(name, value);
  }
  return raw;
}
