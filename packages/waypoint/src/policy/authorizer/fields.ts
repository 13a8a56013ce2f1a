import type { FieldPatterns } from '@ambit/api';
import { isVouched } from '../../http/vouched.ts';

/** Whether one of the patterns (`name`, `prefix*`, `*suffix`, `*`) means a field; both are lower case. */
export function isNamed(patterns: FieldPatterns, name: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === '*') return true;
    if (pattern.endsWith('*')) return name.startsWith(pattern.slice(0, -1));
    if (pattern.startsWith('*')) return name.endsWith(pattern.slice(1));
    return pattern === name;
  });
}

const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Fields that frame or route a message, or of which the proxy itself vouches, are not an authorizer's to write. */
export function mayWrite(name: string): boolean {
  return nameForm.test(name) && !hopByHop.has(name) && !isVouched(name);
}

const nameForm = /^[!#$%&'*+.^_`|~0-9a-z-]{1,256}$/;
const valueForm = /^[\t\x20-\x7e\x80-\xff]*$/;
const maxValueChars = 16 * 1024;

/** A value that ends no line. */
export function isValue(value: string): boolean {
  return value.length <= maxValueChars && valueForm.test(value);
}

/** Credentials are the client's own words: they stay where the authorizer puts nothing in their place. */
const clientsOwn: ReadonlySet<string> = new Set(['authorization', 'cookie']);

/**
 * Fields that only the authorizer may say to the application: whoever sends them himself is not heard. A pattern that
 * means every field says nothing of any.
 */
export function isAuthorizers(patterns: FieldPatterns, name: string): boolean {
  return !clientsOwn.has(name) && !patterns.includes('*') && isNamed(patterns, name);
}
