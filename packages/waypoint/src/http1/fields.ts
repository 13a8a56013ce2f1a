import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { HttpError } from '../http/message.ts';
import { isTwin, isVouched } from '../http/vouched.ts';

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const notInValue = /[^\t\x20-\x7e\x80-\xff]/;

// The same few names come again and again: each is checked and lowered once.
const knownNames = new Map<string, string>();
const maxKnownNames = 2048;

/** What `Connection` may not take away, beside what the proxy says of its client: framing and routing. */
const notForNomination: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'trailer',
  'authorization',
]);

export function bad(message: string, status = 400): Result<never, HttpError> {
  return err(new HttpError('http1/malformed', status, message));
}

/** What a head says about itself and its connection. */
export interface Told {
  readonly hosts: readonly string[];
  readonly lengths: readonly string[];
  readonly codings: readonly string[];
  readonly te: readonly string[];
  readonly upgrade: string | undefined;
  readonly expect: string | undefined;
  /** For how long an endpoint says that it keeps an idle connection. */
  readonly keptMs: number | undefined;
  /** The options of `Connection`, where they are good ones. */
  readonly options: Result<ReadonlySet<string>, HttpError>;
}

/** The fields of one head, read. */
export interface HeadFields {
  readonly told: Told;
  /** Names and values of what is handed on: all but what speaks of this connection alone. */
  readonly handedOn: readonly string[];
  /** How many fields came. */
  readonly count: number;
}

/** Of a request the host is told apart and no field any more. */
export type Message = 'request' | 'response';

interface Block {
  readonly text: string;
  readonly fields: HeadFields;
}

/**
 * What the last head of a connection said. Its next one mostly has the same fields, and what has been read need not be
 * read again: neither all of them together nor, where some differ, the lines that do not. Every comparison is of whole
 * texts, so what is remembered is never anything else than what reading it would give.
 */
export class LastHead {
  readonly #message: Message;
  #first: RegExpExecArray | undefined;
  #block: Block | undefined;
  #lines: string[] = [];
  #fields: string[] = [];

  constructor(message: Message) {
    this.#message = message;
  }

  /** The first line of a head, which ends at `end`, taken apart. */
  first(text: string, end: number, form: RegExp): RegExpExecArray | null {
    const written = text.slice(0, end);
    const last = this.#first;
    if (last?.[0] === written) return last;
    const line = form.exec(written);
    if (line !== null && text.length <= maxRememberedChars) this.#first = line;
    return line;
  }

  /** Reads the lines of `text` behind `from`, each ended by CRLF, without the empty one. */
  fields(text: string, from: number, max: number): Result<HeadFields, HttpError> {
    const written = text.slice(from);
    const last = this.#block;
    if (last?.text === written && last.fields.count <= max) return ok(last.fields);
    const remembers = text.length <= maxRememberedChars;
    const read = parseFields(written, max, remembers ? this : undefined);
    if (!read.ok) return read;
    const fields = sift(read.value, this.#message);
    if (remembers) this.#block = { text: written, fields };
    return ok(fields);
  }

  /** The line that stood at this place, where it stands at this place of `text` again. */
  again(index: number, text: string, at: number): string | undefined {
    const line = this.#lines[index];
    if (line === undefined) return undefined;
    const end = at + line.length;
    // To compare a part that is cut out is many times cheaper than `startsWith`.
    if (text.slice(at, end) !== line) return undefined;
    const isWhole = end === text.length || text.slice(end, end + 2) === '\r\n';
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

/** Parses lines of fields, each ended by CRLF, without the empty one, to names and values. */
export function parseFields(
  text: string,
  max: number,
  last: LastHead | undefined,
): Result<string[], HttpError> {
  const fields: string[] = [];
  let at = 0;
  for (let index = 0; at < text.length; index += 1) {
    const known = last?.again(index, text, at);
    if (last !== undefined && known !== undefined) {
      fields.push(last.name(index), last.value(index));
      at += known.length + 2;
    } else {
      const end = text.indexOf('\r\n', at);
      const stop = end < 0 ? text.length : end;
      const field = fieldOf(text, at, stop);
      if (!field.ok) return field;
      const { name, value } = field.value;
      fields.push(name, value);
      last?.read(index, text.slice(at, stop), name, value);
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

/** Tells what is handed on from what a head says about itself and its connection. */
function sift(fields: readonly string[], message: Message): HeadFields {
  const sifted = new Sifted(message);
  let handedOn: string[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at] ?? '';
    const value = fields[at + 1] ?? '';
    if (sifted.keeps(name, value)) handedOn.push(name, value);
  }
  const told = sifted.told();
  // Of `keep-alive`, the field, nothing is left by now.
  if (told.options.ok && told.options.value.size > 0 && told.options.value !== keptAlive) {
    handedOn = without(handedOn, told.options.value);
  }
  return { told, handedOn, count: fields.length / 2 };
}

function without(fields: readonly string[], names: ReadonlySet<string>): string[] {
  return fields.filter((_, at) => !names.has(fields[at - (at % 2)] ?? ''));
}

class Sifted {
  readonly #message: Message;
  readonly #hosts: string[] = [];
  readonly #lengths: string[] = [];
  readonly #codings: string[] = [];
  readonly #connection: string[] = [];
  readonly #te: string[] = [];
  #upgrade: string | undefined;
  #expect: string | undefined;
  #keptMs: number | undefined;

  constructor(message: Message) {
    this.#message = message;
  }

  /** Notes what a field says; true where it is handed on. */
  keeps(name: string, value: string): boolean {
    switch (name) {
      case 'host':
        this.#hosts.push(value);
        return this.#message === 'response';
      case 'content-length':
        this.#lengths.push(value);
        return true;
      case 'transfer-encoding':
        this.#codings.push(value);
        return false;
      case 'connection':
        this.#connection.push(value);
        return false;
      case 'te':
        this.#te.push(value);
        return false;
      case 'upgrade':
        this.#upgrade ??= value;
        return false;
      case 'expect':
        this.#expect ??= value;
        return false;
      case 'keep-alive':
        this.#keptMs = keptMsOf(value) ?? this.#keptMs;
        return false;
      case 'proxy-connection':
        return false;
      default:
        return true;
    }
  }

  told(): Told {
    return {
      hosts: this.#hosts,
      lengths: this.#lengths,
      codings: this.#codings,
      te: this.#te,
      upgrade: this.#upgrade,
      expect: this.#expect,
      keptMs: this.#keptMs,
      options: connectionOptions(this.#connection),
    };
  }
}

/** The `timeout` of `Keep-Alive`, as RFC 2068 §19.7.1 had it and servers still send it. */
function keptMsOf(value: string): number | undefined {
  const seconds = /(?:^|[,\s])timeout=(\d{1,6})(?:[,\s]|$)/i.exec(value)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
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
