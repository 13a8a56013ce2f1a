import type { Unread } from '../named-watches.ts';
import { field } from './fields.ts';

/** What is known of a Secret that somebody names. */
export type SecretRecord =
  { readonly kind: 'read'; readonly values: ReadonlyMap<string, string> } | Unread;

/** The keys of certificates, in the forms that Istio takes; nothing else of a Secret is kept. */
const keys = ['tls.crt', 'tls.key', 'ca.crt', 'ca.crl', 'cert', 'key', 'cacert', 'crl'] as const;
const maxBase64 = 700_000;

export function decodeSecret(object: unknown): SecretRecord {
  const data = field(object, 'data');
  const values = new Map<string, string>();
  for (const key of keys) {
    const value = field(data, key);
    if (typeof value !== 'string' || value === '') continue;
    if (value.length > maxBase64) return { kind: 'unreadable', why: `${key} is too big` };
    values.set(key, Buffer.from(value, 'base64').toString('utf8'));
  }
  return { kind: 'read', values };
}
