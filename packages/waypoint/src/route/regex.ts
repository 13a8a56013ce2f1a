import { RE2JS } from 're2js';

/** Compiled once each; users' expressions run in linear time and match whole values. */
const compiled = new Map<string, RE2JS | undefined>();
const maxCompiled = 2000;
const maxPatternChars = 1024;

/** Undefined for an expression that RE2 refuses: nothing matches it, and the compiler has told its owner. */
export function regexOf(pattern: string): RE2JS | undefined {
  const known = compiled.get(pattern);
  if (known !== undefined || compiled.has(pattern)) return known;
  if (compiled.size >= maxCompiled) compiled.clear();
  let made: RE2JS | undefined;
  try {
    made = pattern.length > maxPatternChars ? undefined : RE2JS.compile(pattern);
  } catch {
    made = undefined;
  }
  compiled.set(pattern, made);
  return made;
}

export function matchesWhole(pattern: string, value: string): boolean {
  return regexOf(pattern)?.matches(value) ?? false;
}

/**
 * Replaces every match by RE2's rules: in the replacement `\0` is the whole match, `\1` to `\9` are groups and `\\` is a
 * backslash. As in Envoy the value stays as it was where the replacement is none for the expression.
 */
export function replaceAll(pattern: string, value: string, replacement: string): string {
  const regex = regexOf(pattern);
  if (regex === undefined) return value;
  const parts = partsOf(replacement);
  const groups = regex.groupCount();
  if (parts?.every((part) => typeof part === 'string' || part <= groups) !== true) return value;
  const made = (...found: unknown[]): string =>
    parts.map((part) => (typeof part === 'string' ? part : textOf(found[part]))).join('');
  return regex.matcher(value).replaceAll(made);
}

/** A group that took no part is nothing. */
function textOf(found: unknown): string {
  return typeof found === 'string' ? found : '';
}

/** Text and the numbers of groups; undefined where a backslash stands before something else. */
function partsOf(replacement: string): readonly (string | number)[] | undefined {
  const parts: (string | number)[] = [];
  for (const [whole, escaped] of replacement.matchAll(/\\([\s\S]?)|[^\\]+/g)) {
    if (escaped === undefined || escaped === '\\') parts.push(escaped ?? whole);
    else if (/^\d$/.test(escaped)) parts.push(Number(escaped));
    else return undefined;
  }
  return parts;
}
