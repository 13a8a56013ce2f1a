import type { SpiffeIdentity } from '@ambit/api';
import { parseIp } from '@ambit/api';

import type { Authority } from './authority.ts';
import { clockSkewMs, newSerialNumber, pem } from './authority.ts';
import type { RequestedKey } from './request.ts';
import { x509 } from './x509.ts';

export interface SignedCertificate {
  /** PEM, leaf first, without the root. */
  readonly chain: readonly string[];
  readonly roots: readonly string[];
  readonly notAfter: Date;
}

export interface SigningTime {
  readonly nowMs: number;
  readonly ttlMs: number;
}

/** Names and addresses of a serving certificate; a workload's has exactly one identity instead. */
export type SubjectNames =
  | { readonly kind: 'identity'; readonly identity: SpiffeIdentity }
  | { readonly kind: 'server'; readonly names: readonly string[] };

/**
 * Of the time for which it holds, so much at most lies before now: holders renew at a third between the two dates, and one
 * that is short, or whose signer ends soon, must not be due as soon as it is there.
 */
const earlierShare = 0.25;

// Made once: the library reads each extension that it makes, which costs more than the signature.
const noAuthority = new x509.BasicConstraintsExtension(false, undefined, true);
const bothSides = new x509.ExtendedKeyUsageExtension([
  x509.ExtendedKeyUsage.serverAuth,
  x509.ExtendedKeyUsage.clientAuth,
]);
const { digitalSignature, keyEncipherment } = x509.KeyUsageFlags;
const rsaUsages = new x509.KeyUsagesExtension(digitalSignature | keyEncipherment, true);
const signatureUsages = new x509.KeyUsagesExtension(digitalSignature, true);

/** Signs a certificate made from our own template; only the public key comes from outside. */
export async function signCertificate(
  authority: Authority,
  key: RequestedKey,
  subject: SubjectNames,
  { nowMs, ttlMs }: SigningTime,
): Promise<SignedCertificate> {
  const issuerEnd = authority.notAfter.getTime();
  const issuerStart = authority.certificate.notBefore.getTime();
  const notAfter = new Date(Math.min(nowMs + ttlMs, issuerEnd));
  const earlierMs = Math.max(0, Math.min(clockSkewMs, (notAfter.getTime() - nowMs) * earlierShare));
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    subject: [],
    issuer: authority.certificate.subjectName,
    notBefore: new Date(Math.max(nowMs - earlierMs, issuerStart)),
    notAfter,
    publicKey: key.spki,
    signingKey: authority.key,
    signingAlgorithm: authority.signingAlgorithm,
    extensions: [
      noAuthority,
      key.kind === 'rsa' ? rsaUsages : signatureUsages,
      bothSides,
      // Critical, because the subject is empty (RFC 5280 4.2.1.6).
      new x509.SubjectAlternativeNameExtension(alternativeNames(subject), true),
      authority.keyIdentifier,
    ],
  });
  return { chain: [pem(certificate), ...authority.chainPem], roots: authority.rootsPem, notAfter };
}

function alternativeNames(subject: SubjectNames): x509.JsonGeneralName[] {
  if (subject.kind === 'identity') return [{ type: 'url', value: subject.identity.uri }];
  return subject.names.map((value) => ({ type: parseIp(value).ok ? 'ip' : 'dns', value }));
}
