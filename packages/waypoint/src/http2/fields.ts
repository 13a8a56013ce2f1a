import type { FieldList } from '@ambit/core';
import { isAuthority } from '../http/authority.ts';
import { HeaderList } from '../http/headers.ts';
import type { RequestHead, ResponseHead } from '../http/message.ts';
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
// Neither a control character, nor white space around it (RFC 9113 §8.2.1).
const valueForm = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const pathForm = /^(?:\/[\x21-\x7e]*|\*)$/;
const methodForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const statusForm = /^[1-9]\d\d$/;
const lengthForm = /^\d{1,15}$/;
const colon = 0x3a;

export function malformed(message: string): HttpError {
  return new HttpError('http2/malformed', 400, message);
}

interface Block {
  /** By their names with the colon; those that are allowed there, each at most once. */
  readonly pseudo: readonly (string | undefined)[];
  readonly headers: HeaderList;
}

/** Reads a block: pseudo fields before all others, and of the others what has a place in HTTP/2. */
function read(list: FieldList, allowed: readonly string[]): Block {
  const pseudo: (string | undefined)[] = [];
  let at = 0;
  for (; at + 1 < list.length; at += 2) {
    const name = list[at] ?? '';
    if (name.charCodeAt(0) !== colon) break;
    const place = allowed.indexOf(name);
    if (place < 0 || pseudo[place] !== undefined) {
      throw malformed(`a field ${shown(name)} that has no place there`);
    }
    pseudo[place] = list[at + 1] ?? '';
  }
  return { pseudo, headers: regular(list, at) };
}

function regular(list: FieldList, from: number): HeaderList {
  const headers = new HeaderList();
  let cookies: string | undefined;
  for (let at = from; at + 1 < list.length; at += 2) {
    const name = list[at] ?? '';
    const value = list[at + 1] ?? '';
    if (!inName.test(name) || forbidden.has(name) || isTwin(name)) {
      throw malformed(`a field ${shown(name)} in HTTP/2`);
    }
    if (!valueForm.test(value)) throw malformed(`a value of ${shown(name)} that is none`);
    if (name === 'te' && value !== 'trailers') continue;
    // Crumbs of one cookie line become one line again for whoever reads HTTP/1.1 (RFC 9113 §8.2.3).
    if (name === 'cookie') cookies = cookies === undefined ? value : `${cookies}; ${value}`;
    else headers.append(name, value);
  }
  if (cookies !== undefined) headers.append('cookie', cookies);
  return headers;
}

const shown = (name: string): string => JSON.stringify(name.slice(0, 60));

const ofRequest = [':method', ':scheme', ':authority', ':path'];

/** The head of a request; what would be something else in HTTP/1.1 is refused. */
export function requestOf(list: FieldList): RequestHead {
  const { pseudo, headers } = read(list, ofRequest);
  const [method = '', scheme = '', authority, path = ''] = pseudo;
  if (method === 'CONNECT') throw new HttpError('http2/connect', 405, 'CONNECT is not served here');
  if (!methodForm.test(method)) throw malformed('no good :method');
  if (scheme !== 'http' && scheme !== 'https') throw malformed('no good :scheme');
  if (!pathForm.test(path)) throw malformed('no good :path');
  const named = authorityOf(authority, headers.all('host'));
  const expectContinue = headers.get('expect')?.toLowerCase() === '100-continue';
  headers.delete('host');
  headers.delete('expect');
  return {
    method,
    // How the connection is, and not how its client calls it: policies may ask for it, and endpoints are told.
    scheme: 'http',
    authority: named,
    path,
    headers,
    protocol: 'HTTP/2',
    upgrade: undefined,
    expectContinue,
  };
}

function authorityOf(named: string | undefined, hosts: readonly string[]): string {
  if (hosts.length > 1) throw malformed('more than one host');
  const host = hosts[0]?.toLowerCase();
  const authority = (named ?? host ?? '').toLowerCase();
  if (!isAuthority(authority)) throw malformed('no good :authority');
  if (host === undefined || host === authority) return authority;
  throw malformed('host and :authority name different places');
}

const ofAnswer = [':status'];

export function answerOf(list: FieldList): ResponseHead {
  const { pseudo, headers } = read(list, ofAnswer);
  const [status = ''] = pseudo;
  if (!statusForm.test(status)) throw malformed('no good :status');
  return { status: Number(status), headers };
}

/** The fields after a body, of which none may frame, route or vouch. */
export function trailersOf(list: FieldList): HeaderList {
  const trailers = regular(list, 0);
  for (const [name] of trailers) {
    if (!mayBeTrailer(name)) throw malformed(`${name} may not be a trailer`);
  }
  return trailers;
}

/** How long a message says that its body is; undefined where it does not say. */
export function lengthOf(headers: HeaderList): number | undefined {
  const value = headers.get('content-length');
  if (value === undefined) return undefined;
  // Nobody may read another one than we do.
  if (!lengthForm.test(value) || headers.all('content-length').length > 1) {
    throw malformed('no good content-length');
  }
  return Number(value);
}

export function requestList({ method, scheme, authority, path, headers }: RequestHead): FieldList {
  const list = [':method', method, ':scheme', scheme, ':authority', authority, ':path', path];
  append(list, headers);
  return list;
}

export function answerList({ status, headers }: ResponseHead): FieldList {
  const list = [':status', String(status)];
  append(list, headers);
  return list;
}

export function fieldList(headers: HeaderList): FieldList {
  const list: string[] = [];
  append(list, headers);
  return list;
}

function append(list: string[], headers: HeaderList): void {
  headers.each((name, value) => {
    if (!forbidden.has(name)) list.push(name, value);
  });
}
