import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { Result, SpiffeIdentity } from '@ambit/api';
import { err, ok } from '@ambit/api';

/** What a leaf certificate says of itself, read from its DER and not from a printed form. */
export interface LeafFacts {
  /** Every URI of the subject alternative name, in order. */
  readonly uris: readonly string[];
  readonly isCa: boolean;
  readonly digitalSignature: boolean;
  /** True when the key may sign certificates or revocation lists. */
  readonly mayIssue: boolean;
  readonly serverAuth: boolean;
  readonly clientAuth: boolean;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface CertificateMalformed {
  readonly code: 'tls/certificate-malformed';
  readonly message: string;
}

export interface GeneratedRequest {
  readonly csrPem: string;
  readonly privateKeyPem: string;
}

const subjectAlternativeName = '2.5.29.17';
const p256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Reads what peer verification needs; a certificate that repeats an extension or does not decode is malformed. */
export function readLeaf(der: Uint8Array): Result<LeafFacts, CertificateMalformed> {
  try {
    return readCertificate(new x509.X509Certificate(Uint8Array.from(der)));
  } catch {
    return malformed('it does not decode');
  }
}

function readCertificate(
  certificate: x509.X509Certificate,
): Result<LeafFacts, CertificateMalformed> {
  const kinds = certificate.extensions.map((extension) => extension.type);
  if (new Set(kinds).size !== kinds.length) return malformed('an extension stands in it twice');
  const names =
    certificate.getExtension<x509.SubjectAlternativeNameExtension>(subjectAlternativeName);
  const usage = certificate.getExtension(x509.KeyUsagesExtension)?.usages ?? 0;
  const purposes = certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages ?? [];
  const issuing = x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign;
  return ok({
    uris: (names?.names.items ?? [])
      .filter((name) => name.type === 'url')
      .map((name) => name.value),
    isCa: certificate.getExtension(x509.BasicConstraintsExtension)?.ca ?? false,
    digitalSignature: (usage & x509.KeyUsageFlags.digitalSignature) !== 0,
    mayIssue: (usage & issuing) !== 0,
    serverAuth: purposes.includes(x509.ExtendedKeyUsage.serverAuth),
    clientAuth: purposes.includes(x509.ExtendedKeyUsage.clientAuth),
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
  });
}

function malformed(why: string): Result<never, CertificateMalformed> {
  return err({
    code: 'tls/certificate-malformed',
    message: `the certificate is malformed: ${why}`,
  });
}

/** Makes a P-256 key and a PKCS#10 request that names `identity` as its only URI; both PEM. */
export async function createCertificateRequest(
  identity: SpiffeIdentity,
): Promise<GeneratedRequest> {
  const keys = await webcrypto.subtle.generateKey(p256, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      keys,
      signingAlgorithm: p256,
      extensions: [
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identity.uri }], true),
      ],
    },
    webcrypto,
  );
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    csrPem: request.toString('pem'),
    privateKeyPem: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'),
  };
}
