/**
 * Certificates for TLS to endpoints, read from a Secret. Proxies of the Secret's namespace are told of it and no others;
 * it is never logged and never shown.
 */
export interface Credential {
  readonly name: string;
  readonly namespace: string;
  /** PEM, leaf first. With `privateKey` or not at all. */
  readonly certificate?: string;
  /** PEM. */
  readonly privateKey?: string;
  /** PEM of the roots that endpoints are verified against. */
  readonly ca?: string;
  /** PEM of revocation lists. */
  readonly crl?: string;
}

/** What may be shown of a credential. */
export function redactedCredential(credential: Credential): Credential {
  return 'privateKey' in credential ? { ...credential, privateKey: 'redacted' } : credential;
}

/** What a credential lacks for a use; undefined where it is enough. */
export function credentialLack(
  credential: Credential,
  use: { readonly mode: 'simple' | 'mutual'; readonly insecureSkipVerify: boolean },
): string | undefined {
  const { certificate, privateKey, ca } = credential;
  if (use.mode === 'mutual' && (certificate === undefined || privateKey === undefined))
    return 'it has no certificate and key (tls.crt and tls.key, or cert and key)';
  if (ca === undefined && !use.insecureSkipVerify)
    return 'it has no roots to verify endpoints against (ca.crt or cacert, also in the Secret of the same name with -cacert)';
  return undefined;
}
