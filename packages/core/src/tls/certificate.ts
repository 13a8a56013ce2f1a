import { X509Certificate, createPrivateKey } from 'node:crypto';
import type { Result, SpiffeIdentity } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { identityOf } from './verify-peer.ts';
import { readLeaf } from './x509.ts';

/** A workload's certificate with its key and the roots it trusts: all that one side of a handshake needs. */
export interface WorkloadCertificate {
  readonly identity: SpiffeIdentity;
  /** PEM, leaf first, without the root. */
  readonly chain: readonly string[];
  /** PEM (PKCS#8). */
  readonly privateKey: string;
  /** PEM, at least one. */
  readonly roots: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** When to fetch the next one: a third into its life, which leaves two thirds for an absent authority. */
  readonly refreshAt: Date;
}

export interface CertificateRejected {
  readonly code: 'tls/certificate-unusable';
  readonly message: string;
}

export interface CertificateParts {
  readonly chain: readonly string[];
  readonly privateKey: string;
  readonly roots: readonly string[];
}

/**
 * Checks that the parts belong together and can serve: one strict SPIFFE identity, a key that fits the leaf, at
 * least one root (with none, OpenSSL would trust the public web's), not past its end.
 */
export function parseWorkloadCertificate(
  parts: CertificateParts,
  now: Date = new Date(),
): Result<WorkloadCertificate, CertificateRejected> {
  const [leafPem] = parts.chain;
  if (leafPem === undefined) return unusable('the chain is empty');
  if (parts.roots.length === 0) return unusable('there is no root to trust');
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(leafPem);
    if (!leaf.checkPrivateKey(createPrivateKey(parts.privateKey))) {
      return unusable('the private key is not the key of the leaf');
    }
    for (const pem of [...parts.chain.slice(1), ...parts.roots]) new X509Certificate(pem);
  } catch {
    return unusable('the chain, the key or a root is no PEM that OpenSSL reads');
  }
  const facts = readLeaf(leaf.raw);
  if (!facts.ok) return unusable(facts.error.message);
  const identity = identityOf(facts.value);
  if (!identity.ok) return unusable(identity.error.message);
  const { notBefore, notAfter } = facts.value;
  if (notAfter <= now) return unusable(`it ended at ${notAfter.toISOString()}`);
  const life = notAfter.getTime() - notBefore.getTime();
  return ok({
    identity: identity.value,
    chain: parts.chain,
    privateKey: parts.privateKey,
    roots: parts.roots,
    notBefore,
    notAfter,
    refreshAt: new Date(notBefore.getTime() + life / 3),
  });
}

function unusable(why: string): Result<never, CertificateRejected> {
  return err({
    code: 'tls/certificate-unusable',
    message: `the certificate cannot be used: ${why}`,
  });
}
