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
  const decoded = decode(path);
  if (!decoded.ok) return decoded;
  const resolved = removeDots(decoded.value.replaceAll('\\', '/'));
  // Some servers cut `;x` off a segment before they resolve dots and merge slashes.
  if (dotsWithParameter.test(resolved)) return err('the path hides a dot segment');
  if (nothingButParameter.test(resolved)) return err('the path hides an empty segment');
  const normal = resolved.replace(/\/{2,}/g, '/');
  return ok(queryAt < 0 ? normal : normal + target.slice(queryAt));
}

const encodedTwice = /%25[0-9A-Fa-f]{2}/;
const dotsWithParameter = /\/\.{1,2}(?:;|%3B)/;
const nothingButParameter = /\/(?:;|%3B)/;

function decode(path: string): Result<string, string> {
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
    if (!/^[0-9A-Fa-f]{2}$/.test(digits)) return err('the path holds a broken escape');
    const byte = Number.parseInt(digits, 16);
    if (byte < 0x20 || byte === 0x7f) return err('the path holds an escaped control character');
    const next = following(open, byte);
    if (next === undefined) return err(noUtf8);
    open = next;
    // A percent sign stays as it is: decoded it could make a new escape for the next reader.
    if (isUnreserved(byte) || byte === 0x2f || byte === 0x5c) out += String.fromCharCode(byte);
    else out += `%${digits.toUpperCase()}`;
    at += 2;
  }
  if (open.length > 0) return err(noUtf8);
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

function isUnreserved(byte: number): boolean {
  return /[A-Za-z0-9._~-]/.test(String.fromCharCode(byte));
}

function removeDots(path: string): string {
  const kept: string[] = [];
  const segments = path.split('/').slice(1);
  for (const [index, segment] of segments.entries()) {
    const last = index === segments.length - 1;
    if (segment === '..') kept.pop();
    if (segment === '.' || segment === '..') {
      if (last) kept.push('');
    } else kept.push(segment);
  }
  return `/${kept.join('/')}`;
}
