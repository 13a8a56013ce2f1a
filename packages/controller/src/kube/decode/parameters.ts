import type { Unread } from '../named-watches.ts';
import { field } from './fields.ts';

/** The texts of a ConfigMap that a Gateway names as its parameters, by their keys. */
export type ParametersRecord =
  { readonly kind: 'read'; readonly texts: ReadonlyMap<string, string> } | Unread;

export function decodeParameters(object: unknown): ParametersRecord {
  const data = field(object, 'data');
  const entries = typeof data === 'object' && data !== null ? Object.entries(data) : [];
  return {
    kind: 'read',
    texts: new Map(entries.map(([key, value]) => [key, typeof value === 'string' ? value : ''])),
  };
}
