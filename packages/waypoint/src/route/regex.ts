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

/** Replaces every match; `\1` in the replacement names a group. */
export function replaceAll(pattern: string, value: string, replacement: string): string {
  const regex = regexOf(pattern);
  if (regex === undefined) return value;
  // The library knows groups by a dollar, and a dollar by two.
  const known = replacement
    .replaceAll('$', '$$$$')
    .replace(/\\(\d)/g, (_whole, digit: string) => `$${digit}`);
  return regex.matcher(value).replaceAll(known);
}
