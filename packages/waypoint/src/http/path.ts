import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

/** What makes a path need a closer look; almost none does. */
const unusual = /[%\\#]|\/\/|\/\./;

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
  // Some servers cut `;x` off a segment before they resolve dots.
  if (dotsWithParameter.test(resolved)) return err('the path hides a dot segment');
  const normal = resolved.replace(/\/{2,}/g, '/');
  return ok(queryAt < 0 ? normal : normal + target.slice(queryAt));
}

const encodedTwice = /%25[0-9A-Fa-f]{2}/;
const dotsWithParameter = /\/\.{1,2};/;

function decode(path: string): Result<string, string> {
  let out = '';
  for (let at = 0; at < path.length; at += 1) {
    const char = path[at] ?? '';
    if (char !== '%') {
      out += char;
      continue;
    }
    const digits = path.slice(at + 1, at + 3);
    if (!/^[0-9A-Fa-f]{2}$/.test(digits)) return err('the path holds a broken escape');
    const byte = Number.parseInt(digits, 16);
    if (byte < 0x20 || byte === 0x7f) return err('the path holds an escaped control character');
    // Overlong forms of UTF-8 hide dots and slashes from whoever decodes strictly.
    if (byte === 0xc0 || byte === 0xc1 || byte > 0xf4) return err('the path is no UTF-8');
    // A percent sign stays as it is: decoded it could make a new escape for the next reader.
    if (isUnreserved(byte) || byte === 0x2f || byte === 0x5c) out += String.fromCharCode(byte);
    else out += `%${digits.toUpperCase()}`;
    at += 2;
  }
  return encodedTwice.test(out) ? err('the path is encoded twice') : ok(out);
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
