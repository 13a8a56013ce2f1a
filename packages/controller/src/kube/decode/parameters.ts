import type { Unread } from '../named-watches.ts';
import { field } from './fields.ts';

/** The texts of a ConfigMap that a Gateway names as its parameters, by their keys. */
export type ParametersRecord =
  { readonly kind: 'read'; readonly texts: ReadonlyMap<string, string> } | Unread;

/** Many may be named, and are held in memory. */
const maxLength = 128 * 1024;

export function decodeParameters(object: unknown): ParametersRecord {
  const data = field(object, 'data');
  const entries = typeof data === 'object' && data !== null ? Object.entries(data) : [];
  const texts = entries.map(
    ([key, value]) => [key, typeof value === 'string' ? value : ''] as const,
  );
  const length = texts.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (length > maxLength)
    return { kind: 'unreadable', why: `its texts are more than ${maxLength} characters` };
  return { kind: 'read', texts: new Map(texts) };
}
