import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import type { AccessEntry } from './access-entry.ts';
import { parse } from './format-parse.ts';

/** A value of a header: the same for every message, or written for each. */
export type HeaderFormat =
  | { readonly kind: 'fixed'; readonly value: string }
  | { readonly kind: 'written'; readonly write: (entry: AccessEntry) => string };

/** As long as any value that a route may name (see the controller's header changes). */
const maxValueChars = 8192;

/**
 * Compiles a header's value in Envoy's format strings, once, for every message to come; `%%` is a percent sign. What
 * is absent writes nothing, so that a value can be empty; what no header may have is left out.
 */
export function compileHeaderFormat(text: string): Result<HeaderFormat, string> {
  const segments = parse(text);
  if (!segments.ok) return err(segments.error);
  const parts = segments.value;
  const fixed = parts.map((part) => (part.kind === 'literal' ? part.text : undefined));
  if (!fixed.includes(undefined)) return ok({ kind: 'fixed', value: fixed.join('') });
  const write = (entry: AccessEntry): string => {
    let value = '';
    for (const part of parts) {
      value += part.kind === 'literal' ? part.text : String(part.read(entry) ?? '');
    }
    const fit = value.length > maxValueChars ? value.slice(0, maxValueChars) : value;
    return (good.test(fit) ? fit : fit.replace(bad, '')).trim();
  };
  return ok({ kind: 'written', write });
}

const good = /^[\t\x20-\x7e\x80-\xff]*$/;
const bad = /[^\t\x20-\x7e\x80-\xff]+/g;
