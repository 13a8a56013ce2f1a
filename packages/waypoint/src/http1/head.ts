import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import { HttpError } from '../http/message.ts';
import type { RequestHead, ResponseHead } from '../http/message.ts';
import { isTwin, isVouched, mayBeTrailer } from '../http/vouched.ts';

/** How long a body is, as exactly one framing says. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  /** An answer that ends with its connection. */
  | { readonly kind: 'until-close' };

export interface ParsedRequest {
  readonly head: RequestHead;
  readonly framing: Framing;
  /** The client wants the connection kept. */
  readonly keepAlive: boolean;
}

export interface ParsedResponse {
  readonly head: ResponseHead;
  readonly framing: Framing;
  readonly keepAlive: boolean;
}

const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
const statusLine = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const notInValue = /[^\t\x20-\x7e\x80-\xff]/;
const authorityForm = /^(?:[a-z0-9._~!$&'()*+,;=-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;

// The same few names come again and again: each is checked and lowered once.
const knownNames = new Map<string, string>();
const maxKnownNames = 2048;

/** Fields that speak of one connection only and are never handed on. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'te',
  'expect',
]);
/** What `Connection` may not take away, beside what the proxy says of its client: framing and routing. */
const notForNomination: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'trailer',
  'authorization',
]);

function bad(message: string, status = 400): Result<never, HttpError> {
  return err(new HttpError('http1/malformed', status, message));
}

/** Parses `text`: lines of fields, each ended by CRLF, without the empty one. */
export function parseFields(text: string, from: number, max: number): Result<string[], HttpError> {
  const fields: string[] = [];
  let at = from;
  while (at < text.length) {
    const end = text.indexOf('\r\n', at);
    const stop = end < 0 ? text.length : end;
    const colon = text.indexOf(':', at);
    if (colon < 0 || colon >= stop) return bad('a field line without a colon');
    const name = nameOf(text.slice(at, colon));
    if (name === undefined) return bad('a field name that is no token');
    let start = colon + 1;
    let last = stop;
    while (start < last && isSpace(text.charCodeAt(start))) start += 1;
    while (last > start && isSpace(text.charCodeAt(last - 1))) last -= 1;
    const value = text.slice(start, last);
    if (notInValue.test(value)) return bad('a field value with a control character');
    fields.push(name, value);
    if (fields.length > max * 2) return bad(`more than ${max} fields`, 431);
    at = stop + 2;
  }
  return ok(fields);
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

function nameOf(written: string): string | undefined {
  const known = knownNames.get(written);
  if (known !== undefined) return known;
  if (!token.test(written)) return undefined;
  const lower = written.toLowerCase();
  if (isTwin(lower)) return undefined;
  if (knownNames.size < maxKnownNames && written.length < 64) knownNames.set(written, lower);
  return lower;
}

/** Parses a request's head: the bytes before the empty line, as Latin-1. */
export function parseRequestHead(
  text: string,
  maxFields: number,
): Result<ParsedRequest, HttpError> {
  const lineEnd = text.indexOf('\r\n');
  const line = requestLine.exec(lineEnd < 0 ? text : text.slice(0, lineEnd));
  if (line === null) return bad('no request line of HTTP/1.1');
  const [, method = '', target = '', minor] = line;
  if (method === 'CONNECT') return bad('CONNECT is not served here', 405);
  const fields = parseFields(text, lineEnd < 0 ? text.length : lineEnd + 2, maxFields);
  if (!fields.ok) return fields;
  const headers = new HeaderList(fields.value);
  const old = minor === '0';
  const framing = requestFraming(headers, old);
  if (!framing.ok) return framing;
  const connection = connectionOptions(headers);
  if (!connection.ok) return connection;
  const wishes = wishesOf(headers, connection.value, framing.value, old);
  if (!wishes.ok) return wishes;
  const place = placeOf(target, method, headers.all('host'), old);
  if (!place.ok) return place;
  cleaned(headers, connection.value);
  const protocol = old ? 'HTTP/1.0' : 'HTTP/1.1';
  return ok({
    head: { method, scheme: 'http', ...place.value, headers, protocol, ...wishes.value },
    framing: framing.value,
    keepAlive: old ? connection.value.has('keep-alive') : !connection.value.has('close'),
  });
}

/** Takes away what speaks of this connection alone; that trailers are welcome is worth handing on. */
function cleaned(headers: HeaderList, options: ReadonlySet<string>): void {
  const wantsTrailers =
    headers.has('te') && headers.all('te').some((one) => trailersWord.test(one));
  strip(headers, options);
  headers.delete('host');
  if (wantsTrailers) headers.append('te', 'trailers');
}

const trailersWord = /(?:^|,)\s*trailers\s*(?:,|$)/i;

/** What a client asks of the connection beside its request. */
function wishesOf(
  headers: HeaderList,
  options: ReadonlySet<string>,
  framing: Framing,
  old: boolean,
): Result<Pick<RequestHead, 'upgrade' | 'expectContinue'>, HttpError> {
  const expect = headers.get('expect')?.toLowerCase();
  if (expect !== undefined && expect !== '100-continue') return bad('an unknown Expect', 417);
  const wanted = options.has('upgrade') ? headers.get('upgrade')?.toLowerCase() : undefined;
  // Clients offer HTTP/2 this way with any request and are content with HTTP/1.1.
  const upgrade = wanted === 'h2c' ? undefined : wanted;
  if (upgrade !== undefined && framing.kind !== 'none') return bad('an upgrade with a body');
  return ok({ upgrade: old ? undefined : upgrade, expectContinue: expect !== undefined && !old });
}

function placeOf(
  target: string,
  method: string,
  hosts: readonly string[],
  old: boolean,
): Result<{ authority: string; path: string }, HttpError> {
  if (hosts.length > 1 || (hosts.length === 0 && !old)) return bad('not exactly one Host');
  const host = (hosts[0] ?? '').toLowerCase();
  if (host !== '' && !authorityForm.test(host)) return bad('Host is no authority');
  if (target.startsWith('/')) return ok({ authority: host, path: target });
  if (target === '*') {
    return method === 'OPTIONS' ? ok({ authority: host, path: '*' }) : bad('* is for OPTIONS only');
  }
  return absolutePlace(target, host);
}

function absolutePlace(
  target: string,
  host: string,
): Result<{ authority: string; path: string }, HttpError> {
  const absolute = /^https?:\/\/([^/?#]+)([/?].*)?$/i.exec(target);
  if (absolute === null) return bad('a target of no known form');
  const authority = (absolute[1] ?? '').toLowerCase();
  if (!authorityForm.test(authority)) return bad('the target names no authority');
  // Whoever reads the one and whoever reads the other must be led to the same place.
  if (authority !== host) return bad('the target and Host name different places');
  const path = absolute[2] ?? '/';
  return ok({ authority, path: path.startsWith('?') ? `/${path}` : path });
}

function requestFraming(headers: HeaderList, old: boolean): Result<Framing, HttpError> {
  const codings = headers.all('transfer-encoding');
  const lengths = headers.all('content-length');
  if (codings.length > 0) {
    if (lengths.length > 0) return bad('both Transfer-Encoding and Content-Length');
    if (old) return bad('Transfer-Encoding in HTTP/1.0');
    if (codings.length > 1) return bad('more than one Transfer-Encoding');
    if ((codings[0] ?? '').toLowerCase() !== 'chunked')
      return bad('an unknown Transfer-Encoding', 501);
    return ok({ kind: 'chunked' });
  }
  return lengthFraming(lengths, { kind: 'none' });
}

function lengthFraming(lengths: readonly string[], absent: Framing): Result<Framing, HttpError> {
  const [length] = lengths;
  if (length === undefined) return ok(absent);
  if (lengths.length > 1 || !/^\d{1,15}$/.test(length))
    return bad('Content-Length is no one number');
  const bytes = Number(length);
  return ok(bytes === 0 ? { kind: 'none' } : { kind: 'length', bytes });
}

/** The options of `Connection`, which also names fields to take away. */
function connectionOptions(headers: HeaderList): Result<ReadonlySet<string>, HttpError> {
  const values = headers.all('connection');
  if (values.length === 0) return ok(noOptions);
  const options = new Set<string>();
  for (const value of values) {
    for (const option of value.split(',')) {
      const name = option.trim().toLowerCase();
      if (name === '') continue;
      if (!token.test(name)) return bad('Connection holds something that is no token');
      if (notForNomination.has(name) || isVouched(name))
        return bad(`Connection may not take away ${name}`);
      options.add(name);
    }
  }
  return ok(options);
}
const noOptions: ReadonlySet<string> = new Set();

function strip(headers: HeaderList, options: ReadonlySet<string>): void {
  for (const name of hopByHop) headers.delete(name);
  for (const name of options) headers.delete(name);
}

/** Parses the head of an answer to `method`. */
export function parseResponseHead(
  text: string,
  method: string,
  maxFields: number,
): Result<ParsedResponse & { readonly upgrade: string | undefined }, HttpError> {
  const lineEnd = text.indexOf('\r\n');
  const line = statusLine.exec(lineEnd < 0 ? text : text.slice(0, lineEnd));
  if (line === null) return bad('no status line of HTTP/1.1', 502);
  const [, minor, code] = line;
  const status = Number(code);
  const fields = parseFields(text, lineEnd < 0 ? text.length : lineEnd + 2, maxFields);
  if (!fields.ok) return bad(fields.error.message, 502);
  const headers = new HeaderList(fields.value);
  const framing = responseFraming(headers, status, method, minor === '0');
  if (!framing.ok) return framing;
  const connection = connectionOptions(headers);
  if (!connection.ok) return bad(connection.error.message, 502);
  const upgrade = connection.value.has('upgrade') ? headers.get('upgrade') : undefined;
  strip(headers, connection.value);
  const keepAlive =
    minor === '0' ? connection.value.has('keep-alive') : !connection.value.has('close');
  return ok({
    head: { status, headers },
    framing: framing.value,
    keepAlive: keepAlive && framing.value.kind !== 'until-close',
    upgrade,
  });
}

function responseFraming(
  headers: HeaderList,
  status: number,
  method: string,
  old: boolean,
): Result<Framing, HttpError> {
  const codings = headers.all('transfer-encoding');
  const lengths = headers.all('content-length');
  if (codings.length > 0) {
    const one = codings.length === 1 && (codings[0] ?? '').toLowerCase() === 'chunked';
    if (!one || old || lengths.length > 0) return bad('the framing of the answer is not one', 502);
    if (status < 200 || status === 204) return bad('a bodiless answer with Transfer-Encoding', 502);
  }
  const length = lengthFraming(lengths, { kind: 'until-close' });
  if (!length.ok) return bad(length.error.message, 502);
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') {
    return ok({ kind: 'none' });
  }
  return codings.length > 0 ? ok({ kind: 'chunked' }) : length;
}

/** Parses what follows the last chunk; fields that frame or route have no place there. */
export function parseTrailers(text: string, maxFields: number): Result<HeaderList, HttpError> {
  const fields = parseFields(text, 0, maxFields);
  if (!fields.ok) return fields;
  for (let at = 0; at < fields.value.length; at += 2) {
    if (!mayBeTrailer(fields.value[at] ?? '')) {
      return bad(`${fields.value[at] ?? ''} may not be a trailer`);
    }
  }
  return ok(new HeaderList(fields.value));
}
