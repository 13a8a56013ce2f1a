import type { Result } from '@ambit/api';
import { ok } from '@ambit/api';
import { isAuthority } from '../http/authority.ts';
import { HeaderList } from '../http/headers.ts';
import type { HttpError, RequestHead, ResponseHead } from '../http/message.ts';
import { mayBeTrailer } from '../http/vouched.ts';
import type { Told } from './fields.ts';
import { LastHead, bad, parseFields } from './fields.ts';

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
  /** How long the endpoint keeps the connection idle, where it says so. */
  readonly keptMs: number | undefined;
}

const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
const statusLine = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;

/** Parses a request's head: the bytes before the empty line, as Latin-1. */
export function parseRequestHead(
  text: string,
  maxFields: number,
  last = new LastHead('request'),
): Result<ParsedRequest, HttpError> {
  const end = firstLineEnd(text);
  const line = last.first(text, end, requestLine);
  if (line === null) return bad('no request line of HTTP/1.1');
  const [, method = '', target = '', minor] = line;
  if (method === 'CONNECT') return bad('CONNECT is not served here', 405);
  const fields = last.fields(text, end + 2, maxFields);
  if (!fields.ok) return fields;
  const { told, handedOn } = fields.value;
  const old = minor === '0';
  const framing = requestFraming(told, old);
  if (!framing.ok) return framing;
  const connection = told.options;
  if (!connection.ok) return connection;
  const wishes = wishesOf(told, connection.value, framing.value, old);
  if (!wishes.ok) return wishes;
  const place = placeOf(target, method, told.hosts, old);
  if (!place.ok) return place;
  const headers = new HeaderList([...handedOn]);
  // That trailers are welcome is worth handing on.
  if (told.te.some((one) => trailersWord.test(one))) headers.append('te', 'trailers');
  const { authority, path } = place.value;
  const { upgrade, expectContinue } = wishes.value;
  const protocol = old ? 'HTTP/1.0' : 'HTTP/1.1';
  return ok({
    head: { method, scheme: 'http', authority, path, headers, protocol, upgrade, expectContinue },
    framing: framing.value,
    keepAlive: old ? connection.value.has('keep-alive') : !connection.value.has('close'),
  });
}

const trailersWord = /(?:^|,)\s*trailers\s*(?:,|$)/i;

/** What a client asks of the connection beside its request. */
function wishesOf(
  told: Told,
  options: ReadonlySet<string>,
  framing: Framing,
  old: boolean,
): Result<Pick<RequestHead, 'upgrade' | 'expectContinue'>, HttpError> {
  const expect = told.expect?.toLowerCase();
  if (expect !== undefined && expect !== '100-continue') return bad('an unknown Expect', 417);
  const wanted = options.has('upgrade') ? told.upgrade?.toLowerCase() : undefined;
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
  if (host !== '' && !isAuthority(host)) return bad('Host is no authority');
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
  if (!isAuthority(authority)) return bad('the target names no authority');
  // Whoever reads the one and whoever reads the other must be led to the same place.
  if (authority !== host) return bad('the target and Host name different places');
  const path = absolute[2] ?? '/';
  return ok({ authority, path: path.startsWith('?') ? `/${path}` : path });
}

function requestFraming({ codings, lengths }: Told, old: boolean): Result<Framing, HttpError> {
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

function firstLineEnd(text: string): number {
  const end = text.indexOf('\r\n');
  return end < 0 ? text.length : end;
}

/** Parses the head of an answer to `method`. */
export function parseResponseHead(
  text: string,
  method: string,
  maxFields: number,
  last = new LastHead('response'),
): Result<ParsedResponse & { readonly upgrade: string | undefined }, HttpError> {
  const end = firstLineEnd(text);
  const line = last.first(text, end, statusLine);
  if (line === null) return bad('no status line of HTTP/1.1', 502);
  const [, minor, code] = line;
  const status = Number(code);
  const fields = last.fields(text, end + 2, maxFields);
  if (!fields.ok) return bad(fields.error.message, 502);
  const { told, handedOn } = fields.value;
  const framing = responseFraming(told, status, method, minor === '0');
  if (!framing.ok) return framing;
  const connection = told.options;
  if (!connection.ok) return bad(connection.error.message, 502);
  const upgrade = connection.value.has('upgrade') ? told.upgrade : undefined;
  const keepAlive =
    minor === '0' ? connection.value.has('keep-alive') : !connection.value.has('close');
  return ok({
    head: { status, headers: new HeaderList([...handedOn]) },
    framing: framing.value,
    keepAlive: keepAlive && framing.value.kind !== 'until-close',
    keptMs: told.keptMs,
    upgrade,
  });
}

function responseFraming(
  { codings, lengths }: Told,
  status: number,
  method: string,
  old: boolean,
): Result<Framing, HttpError> {
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
  const fields = parseFields(text, maxFields, undefined);
  if (!fields.ok) return fields;
  for (let at = 0; at < fields.value.length; at += 2) {
    if (!mayBeTrailer(fields.value[at] ?? '')) {
      return bad(`${fields.value[at] ?? ''} may not be a trailer`);
    }
  }
  return ok(new HeaderList(fields.value));
}
