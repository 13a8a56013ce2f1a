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
/** What a head is looked through for. */
const special: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'te',
  'upgrade',
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

/**
 * The field lines of the last head of a connection. Its next one mostly has the same, and a line that has been read
 * need not be read again.
 */
export class FieldLines {
  #first: RegExpExecArray | undefined;
  #lines: string[] = [];
  #fields: string[] = [];

  /** The first line of a head, which ends at `end`, taken apart. */
  first(text: string, end: number, form: RegExp): RegExpExecArray | null {
    const last = this.#first;
    if (last?.[0].length === end && text.startsWith(last[0])) return last;
    const line = form.exec(text.slice(0, end));
    if (line !== null && text.length <= maxRememberedChars) this.#first = line;
    return line;
  }

  /** The line that stood at this place, where it stands at this place of `text` again. */
  again(index: number, text: string, at: number): string | undefined {
    const line = this.#lines[index];
    if (line === undefined || !text.startsWith(line, at)) return undefined;
    const end = at + line.length;
    const isWhole = end === text.length || text.startsWith('\r\n', end);
    return isWhole ? line : undefined;
  }

  name(index: number): string {
    return this.#fields[index * 2] ?? '';
  }

  value(index: number): string {
    return this.#fields[index * 2 + 1] ?? '';
  }

  /** Remembers a line that was read. */
  read(index: number, line: string, name: string, value: string): void {
    if (index >= maxLines) return;
    this.#lines[index] = line;
    this.#fields[index * 2] = name;
    this.#fields[index * 2 + 1] = value;
  }
}
const maxLines = 24;
/** A longer head is not worth the memory: its lines keep all of it. */
const maxRememberedChars = 2048;

/** Parses `text`: lines of fields, each ended by CRLF, without the empty one. */
export function parseFields(
  text: string,
  from: number,
  max: number,
  lines = new FieldLines(),
): Result<string[], HttpError> {
  const fields: string[] = [];
  const remembers = text.length <= maxRememberedChars;
  let at = from;
  for (let index = 0; at < text.length; index += 1) {
    const known = lines.again(index, text, at);
    if (known !== undefined) {
      fields.push(lines.name(index), lines.value(index));
      at += known.length + 2;
    } else {
      const end = text.indexOf('\r\n', at);
      const stop = end < 0 ? text.length : end;
      const field = fieldOf(text, at, stop);
      if (!field.ok) return field;
      const { name, value } = field.value;
      fields.push(name, value);
      if (remembers) lines.read(index, text.slice(at, stop), name, value);
      at = stop + 2;
    }
    if (fields.length > max * 2) return bad(`more than ${max} fields`, 431);
  }
  return ok(fields);
}

function fieldOf(
  text: string,
  at: number,
  stop: number,
): Result<{ readonly name: string; readonly value: string }, HttpError> {
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
  return ok({ name, value });
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

/** What a head says about itself and its connection, gathered in one pass over its fields. */
class Gathered {
  hosts: readonly string[] = none;
  lengths: readonly string[] = none;
  codings: readonly string[] = none;
  connection: readonly string[] = none;
  te: readonly string[] = none;
  upgrade: string | undefined;
  expect: string | undefined;
  constructor(headers: HeaderList) {
    headers.each((name, value) => {
      if (special.has(name)) this.#add(name, value);
    });
  }

  #add(name: string, value: string): void {
    switch (name) {
      case 'host':
        this.hosts = [...this.hosts, value];
        break;
      case 'content-length':
        this.lengths = [...this.lengths, value];
        break;
      case 'transfer-encoding':
        this.codings = [...this.codings, value];
        break;
      case 'connection':
        this.connection = [...this.connection, value];
        break;
      case 'te':
        this.te = [...this.te, value];
        break;
      case 'upgrade':
        this.upgrade ??= value;
        break;
      case 'expect':
        this.expect ??= value;
    }
  }
}
const none: readonly string[] = [];

/** Parses a request's head: the bytes before the empty line, as Latin-1. */
export function parseRequestHead(
  text: string,
  maxFields: number,
  lines = new FieldLines(),
): Result<ParsedRequest, HttpError> {
  const end = firstLineEnd(text);
  const line = lines.first(text, end, requestLine);
  if (line === null) return bad('no request line of HTTP/1.1');
  const [, method = '', target = '', minor] = line;
  if (method === 'CONNECT') return bad('CONNECT is not served here', 405);
  const fields = parseFields(text, end + 2, maxFields, lines);
  if (!fields.ok) return fields;
  const headers = new HeaderList(fields.value);
  const told = new Gathered(headers);
  const old = minor === '0';
  const framing = requestFraming(told, old);
  if (!framing.ok) return framing;
  const connection = connectionOptions(told.connection);
  if (!connection.ok) return connection;
  const wishes = wishesOf(told, connection.value, framing.value, old);
  if (!wishes.ok) return wishes;
  const place = placeOf(target, method, told.hosts, old);
  if (!place.ok) return place;
  strip(headers, connection.value, 'with-host');
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
  told: Gathered,
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

function requestFraming({ codings, lengths }: Gathered, old: boolean): Result<Framing, HttpError> {
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
function connectionOptions(values: readonly string[]): Result<ReadonlySet<string>, HttpError> {
  const [only] = values;
  if (only === undefined) return ok(noOptions);
  if (only === 'keep-alive' && values.length === 1) return ok(keptAlive);
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
const keptAlive: ReadonlySet<string> = new Set(['keep-alive']);

function firstLineEnd(text: string): number {
  const end = text.indexOf('\r\n');
  return end < 0 ? text.length : end;
}

/** Takes away what speaks of this connection alone, and the host, which is told apart. */
function strip(
  headers: HeaderList,
  options: ReadonlySet<string>,
  which: 'with-host' | 'all-else',
): void {
  headers.deleteWhere(
    (name) =>
      hopByHop.has(name) ||
      (which === 'with-host' && name === 'host') ||
      (options.size > 0 && options.has(name)),
  );
}

/** Parses the head of an answer to `method`. */
export function parseResponseHead(
  text: string,
  method: string,
  maxFields: number,
  lines = new FieldLines(),
): Result<ParsedResponse & { readonly upgrade: string | undefined }, HttpError> {
  const end = firstLineEnd(text);
  const line = lines.first(text, end, statusLine);
  if (line === null) return bad('no status line of HTTP/1.1', 502);
  const [, minor, code] = line;
  const status = Number(code);
  const fields = parseFields(text, end + 2, maxFields, lines);
  if (!fields.ok) return bad(fields.error.message, 502);
  const headers = new HeaderList(fields.value);
  const told = new Gathered(headers);
  const framing = responseFraming(told, status, method, minor === '0');
  if (!framing.ok) return framing;
  const connection = connectionOptions(told.connection);
  if (!connection.ok) return bad(connection.error.message, 502);
  const upgrade = connection.value.has('upgrade') ? told.upgrade : undefined;
  strip(headers, connection.value, 'all-else');
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
  { codings, lengths }: Gathered,
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
  const fields = parseFields(text, 0, maxFields);
  if (!fields.ok) return fields;
  for (let at = 0; at < fields.value.length; at += 2) {
    if (!mayBeTrailer(fields.value[at] ?? '')) {
      return bad(`${fields.value[at] ?? ''} may not be a trailer`);
    }
  }
  return ok(new HeaderList(fields.value));
}
