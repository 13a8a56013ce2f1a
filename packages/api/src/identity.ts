import type { Brand } from './brand.ts';
import type { Result } from './result.ts';
import { err, ok } from './result.ts';

/** A SPIFFE trust domain, for example `cluster.local`. */
export type TrustDomain = Brand<string, 'TrustDomain'>;

/** A workload identity as it stands in a certificate: `spiffe://<trust domain>/ns/<ns>/sa/<sa>`. */
export type SpiffeId = Brand<string, 'SpiffeId'>;

/** The parts of a service-account identity; `uri` is its one canonical spelling. */
export interface SpiffeIdentity {
  readonly trustDomain: TrustDomain;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly uri: SpiffeId;
}

export interface IdentityRejected {
  readonly code: 'identity/not-spiffe' | 'identity/not-a-trust-domain' | 'identity/not-a-name';
  readonly message: string;
}

const maxUriLength = 2048;
const trustDomainForm = /^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/;
// RFC 1123 subdomain: what Kubernetes allows for a namespace (label) and a service account (subdomain).
const nameForm = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;

export function parseTrustDomain(text: string): Result<TrustDomain, IdentityRejected> {
  if (trustDomainForm.test(text) && !text.includes('..')) return ok(text as TrustDomain);
  return err({
    code: 'identity/not-a-trust-domain',
    message: `${JSON.stringify(text.slice(0, 100))} is no trust domain: lower-case letters, digits, '.', '-' and '_', at most 255`,
  });
}

/** Builds an identity from parts that Kubernetes gave; refuses names that Kubernetes would refuse. */
export function makeSpiffeIdentity(
  trustDomain: TrustDomain,
  namespace: string,
  serviceAccount: string,
): Result<SpiffeIdentity, IdentityRejected> {
  for (const name of [namespace, serviceAccount]) {
    if (!nameForm.test(name) || name.includes('..')) {
      return err({
        code: 'identity/not-a-name',
        message: `${JSON.stringify(name.slice(0, 100))} is no namespace or service account name`,
      });
    }
  }
  const uri = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}` as SpiffeId;
  return ok({ trustDomain, namespace, serviceAccount, uri });
}

/**
 * Parses the strict service-account form and nothing else: no escapes, dot segments, empty parts, query, port or
 * user info, so that two spellings can never name one identity.
 */
export function parseSpiffeIdentity(uri: string): Result<SpiffeIdentity, IdentityRejected> {
  const rejected = err({
    code: 'identity/not-spiffe',
    message: `${JSON.stringify(uri.slice(0, 200))} is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`,
  } as const);
  if (uri.length > maxUriLength || !uri.startsWith('spiffe://')) return rejected;
  const parts = uri.slice('spiffe://'.length).split('/');
  if (parts.length !== 5 || parts[1] !== 'ns' || parts[3] !== 'sa') return rejected;
  const [domain = '', , namespace = '', , serviceAccount = ''] = parts;
  const trustDomain = parseTrustDomain(domain);
  if (!trustDomain.ok) return rejected;
  const identity = makeSpiffeIdentity(trustDomain.value, namespace, serviceAccount);
  return identity.ok ? identity : rejected;
}
