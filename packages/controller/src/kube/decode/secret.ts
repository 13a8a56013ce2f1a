import type { Unread } from '../named-watches.ts';
import { field } from './fields.ts';

/** What is known of a Secret that somebody names. */
export type SecretRecord =
  { readonly kind: 'read'; readonly values: ReadonlyMap<string, string> } | Unread;

/** The keys of certificates, in the forms that Istio takes; nothing else of a Secret is kept. */
const keys = ['tls.crt', 'tls.key', 'ca.crt', 'ca.crl', 'cert', 'key', 'cacert', 'crl'] as const;
/** Of all of them: some hundreds of certificates. Many Secrets may be named, and are held in memory. */
const maxBase64 = 400_000;

export function decodeSecret(object: unknown): SecretRecord {
  const data = field(object, 'data');
  const values = new Map<string, string>();
  let length = 0;
  for (const key of keys) {
    const value = field(data, key);
    if (typeof value !== 'string' || value === '') continue;
    length += value.length;
    if (length > maxBase64)
      return { kind: 'unreadable', why: `its certificates are more than ${maxBase64} characters` };
    values.set(key, Buffer.from(value, 'base64').toString('utf8'));
  }
  return { kind: 'read', values };
}
