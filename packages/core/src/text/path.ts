import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

/** What makes a path need a closer look; almost none does. */
const unusual = /[%\\#]|\/[/.;]/;

/**
 * Brings a request target to the one form that is judged and forwarded: Istio's strictest normalisation
 * (DECODE_AND_MERGE_SLASHES). Escaped unreserved characters and slashes are decoded, backslashes are slashes, dot
 * segments are resolved, then slashes merge; what stays escaped is written in capitals. The query is nobody's
 * business here. What could be read in two ways is refused, also where Istio lets it through.
 */
export function normalizePath(target: string): Result<string, string> {
  const queryAt = target.indexOf('?');
  const path = queryAt < 0 ? target : target.slice(0, queryAt);
  if (path === '*') return ok(target);
  if (!path.startsWith('/')) return err('the target is no path');
  if (!unusual.test(target)) return ok(target);
  if (target.includes('#')) return err('the target holds a fragment');
  const normal = normalForm(path, 'whole');
  return normal.ok && queryAt >= 0 ? ok(normal.value + target.slice(queryAt)) : normal;
}

/** `prefix` for one by characters: what it ends with may be the beginning of anything. */
export type PathExtent = 'whole' | 'prefix';

/**
 * Brings what a route compares paths with to the form that requests have. What no path may hold unescaped is escaped.
 * The error says why no request ever has such a path.
 */
export function normalizeMatchedPath(written: string, extent: PathExtent): Result<string, string> {
  if (written === '*') return ok(written);
  if (!written.startsWith('/')) return err('it does not start with /');
  if (!written.isWellFormed()) return err('it is no Unicode');
  const escaped = written.replace(/[^\x21-\x7e]+/g, encodeURIComponent);
  if (escaped.includes('?')) return err('paths are compared without their query');
  if (escaped.includes('#')) return err('it holds a fragment');
  return normalForm(escaped, extent);
}

function normalForm(path: string, extent: PathExtent): Result<string, string> {
  const decoded = decode(path, extent);
  if (!decoded.ok) return decoded;
  const resolved = removeDots(decoded.value.replaceAll('\\', '/'), extent);
  // Some servers cut `;x` off a segment before they resolve dots and merge slashes.
  if (dotsWithParameter.test(resolved)) return err('the path hides a dot segment');
  if (nothingButParameter.test(resolved)) return err('the path hides an empty segment');
  return ok(resolved.replace(/\/{2,}/g, '/'));
}

const encodedTwice = /%25[0-9A-Fa-f]{2}/;
const dotsWithParameter = /\/\.{1,2}(?:;|%3B)/;
const nothingButParameter = /\/(?:;|%3B)/;

function decode(path: string, extent: PathExtent): Result<string, string> {
  let out = '';
  let open = whole;
  for (let at = 0; at < path.length; at += 1) {
    const char = path[at] ?? '';
    if (char !== '%') {
      if (open.length > 0) return err(noUtf8);
      out += char;
      continue;
    }
    const digits = path.slice(at + 1, at + 3);
    if (!/^[0-9A-Fa-f]{2}$/.test(digits)) {
      // Fewer digits than two are the end of the path.
      const isBegun = extent === 'prefix' && /^[0-9A-Fa-f]?$/.test(digits);
      return isBegun ? ok(`${out}%${digits.toUpperCase()}`) : err('the path holds a broken escape');
    }
    const byte = Number.parseInt(digits, 16);
    if (isControl(byte)) return err('the path holds an escaped control character');
    const next = following(open, byte);
    if (next === undefined) return err(noUtf8);
    open = next;
    // A percent sign stays as it is: decoded it could make a new escape for the next reader.
    out += isDecoded(byte) ? String.fromCharCode(byte) : `%${digits.toUpperCase()}`;
    at += 2;
  }
  if (open.length > 0 && extent === 'whole') return err(noUtf8);
  return encodedTwice.test(out) ? err('the path is encoded twice') : ok(out);
}

const noUtf8 = 'the path is no UTF-8';

type Range = readonly [from: number, to: number];

/** The bytes of a character that are still to come. */
type Open = readonly Range[];

const whole: Open = [];
const tail: Range = [0x80, 0xbf];

/** First bytes and what must follow (RFC 3629 §4): overlong forms hide dots and slashes from who decodes strictly. */
const firstBytes: readonly (readonly [Range, Open])[] = [
  [[0x00, 0x7f], whole],
  [[0xc2, 0xdf], [tail]],
  [
    [0xe0, 0xe0],
    [[0xa0, 0xbf], tail],
  ],
  [
    [0xe1, 0xec],
    [tail, tail],
  ],
  [
    [0xed, 0xed],
    [[0x80, 0x9f], tail],
  ],
  [
    [0xee, 0xef],
    [tail, tail],
  ],
  [
    [0xf0, 0xf0],
    [[0x90, 0xbf], tail, tail],
  ],
  [
    [0xf1, 0xf3],
    [tail, tail, tail],
  ],
  [
    [0xf4, 0xf4],
    [[0x80, 0x8f], tail, tail],
  ],
];

/** What is still to come after a byte; undefined where it may not stand there. */
function following([expected, ...rest]: Open, byte: number): Open | undefined {
  const isIn = ([from, to]: Range): boolean => from <= byte && byte <= to;
  if (expected !== undefined) return isIn(expected) ? rest : undefined;
  return firstBytes.find(([range]) => isIn(range))?.[1];
}

function isControl(byte: number): boolean {
  return byte < 0x20 || byte === 0x7f;
}

/** What needs no escape, and slashes of both kinds. */
function isDecoded(byte: number): boolean {
  return /[A-Za-z0-9._~/\\-]/.test(String.fromCharCode(byte));
}

function removeDots(path: string, extent: PathExtent): string {
  const kept: string[] = [];
  const segments = path.split('/').slice(1);
  for (const [index, segment] of segments.entries()) {
    const last = index === segments.length - 1;
    if (last && extent === 'prefix') {
      kept.push(segment);
      continue;
    }
    if (segment === '..') kept.pop();
    if (segment === '.' || segment === '..') {
      if (last) kept.push('');
    } else kept.push(segment);
  }
  return `/${kept.join('/')}`;
}
