import { createPrivateKey, createPublicKey, randomBytes, webcrypto } from 'node:crypto';

import type { Result, TrustDomain } from '@ambit/api';
import { err, ok } from '@ambit/api';

import { x509 } from './x509.ts';

/** A certificate authority that can sign now: the self-made root or a plugged-in intermediate. */
export interface Authority {
  readonly certificate: x509.X509Certificate;
  readonly key: webcrypto.CryptoKey;
  readonly signingAlgorithm: EcdsaSigning | RsaSigning;
  /** The extension by which what it signs names its key. */
  readonly keyIdentifier: x509.AuthorityKeyIdentifierExtension;
  /** What goes after a leaf, in order, without any root; empty when the root itself signs. */
  readonly chainPem: readonly string[];
  readonly rootsPem: readonly string[];
  /** When it can sign no more: the first end of its certificate and of those by which it is trusted. */
  readonly notAfter: Date;
}

interface EcdsaSigning {
  readonly name: 'ECDSA';
  readonly hash: string;
}
interface RsaSigning {
  readonly name: 'RSASSA-PKCS1-v1_5';
  readonly hash: string;
}

/** PEM texts, named as the keys of Istio's Secrets. */
export interface AuthorityFiles {
  readonly caCert: string;
  readonly caKey: string;
  /** Roots that peers are to trust; the certificate itself when absent. */
  readonly rootCert?: string;
  readonly certChain?: string;
}

export interface AuthorityRejected {
  readonly code:
    | 'ca/malformed'
    | 'ca/not-an-authority'
    | 'ca/key-mismatch'
    | 'ca/expired'
    | 'ca/not-yet-valid'
    | 'ca/no-path';
  readonly message: string;
}

const tenYearsMs = 10 * 365 * 24 * 60 * 60_000;
/** By so much the clocks of peers may be behind. */
export const clockSkewMs = 5 * 60_000;
const maxCertificates = 16;

/** Makes a new root: ECDSA P-256, ten years. */
export async function makeSelfSignedRoot(
  trustDomain: TrustDomain,
  nowMs: number,
): Promise<AuthorityFiles> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ O: [trustDomain] }],
    serialNumber: newSerialNumber(),
    notBefore: new Date(nowMs - clockSkewMs),
    notAfter: new Date(nowMs + tenYearsMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    caCert: pem(certificate),
    caKey: `${x509.PemConverter.encode(der, 'PRIVATE KEY')}\n`,
  };
}

/** 128 random bits, as a positive number of full length. */
export function newSerialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

/** Reads an authority and proves that it can sign: an authority's certificate, its key, a path to a given root. */
export async function loadAuthority(
  files: AuthorityFiles,
  nowMs: number,
): Promise<Result<Authority, AuthorityRejected>> {
  const parsed = parseFiles(files);
  if (!parsed.ok) return parsed;
  const { certificate, roots, chain } = parsed.value;
  if (!maySign(certificate)) {
    return reject(
      'ca/not-an-authority',
      'ca-cert.pem may not sign: it needs CA:TRUE and keyCertSign',
    );
  }
  const own = notNow(certificate, 'ca-cert.pem', nowMs);
  if (own !== undefined) return own;
  const key = await importKey(files.caKey, certificate);
  if (!key.ok) return key;
  const path = await pathOf(parsed.value, nowMs);
  if (!path.ok) return path;
  const anchor = path.value.at(-1);
  return ok({
    certificate,
    key: key.value.key,
    signingAlgorithm: key.value.signingAlgorithm,
    keyIdentifier: await keyIdentifierOf(certificate),
    chainPem: [certificate, ...chain].filter((one) => !isRoot(one, roots)).map(pem),
    // The signer's first: by that proxies see that another signs, and have their certificates made anew.
    rootsPem: [...path.value.slice(-1), ...roots.filter((one) => one !== anchor)].map(pem),
    notAfter: new Date(
      Math.min(...[certificate, ...path.value].map((one) => one.notAfter.getTime())),
    ),
  });
}

/** The issuer's own identifier where it has one: verifiers compare them, however the issuer made its. */
async function keyIdentifierOf(
  certificate: x509.X509Certificate,
): Promise<x509.AuthorityKeyIdentifierExtension> {
  const own = certificate.getExtension(x509.SubjectKeyIdentifierExtension);
  if (own !== null) return new x509.AuthorityKeyIdentifierExtension(own.keyId);
  return x509.AuthorityKeyIdentifierExtension.create(certificate.publicKey);
}

/** Without usages a key is for everything. */
function maySign(certificate: x509.X509Certificate): boolean {
  const basic = certificate.getExtension(x509.BasicConstraintsExtension);
  const usages = certificate.getExtension(x509.KeyUsagesExtension)?.usages;
  return (
    basic?.ca === true && (usages === undefined || (usages & x509.KeyUsageFlags.keyCertSign) !== 0)
  );
}

/** Why a certificate is of no use now; undefined where it is. */
function notNow(
  { notBefore, notAfter }: x509.X509Certificate,
  what: string,
  nowMs: number,
): Result<never, AuthorityRejected> | undefined {
  const message = `${what} is valid from ${notBefore.toISOString()} to ${notAfter.toISOString()} only`;
  if (notAfter.getTime() <= nowMs) return reject('ca/expired', message);
  if (notBefore.getTime() > nowMs) return reject('ca/not-yet-valid', message);
  return undefined;
}

/** What leads from the signer to a root that is to be trusted, that root last, all of it valid now. */
async function pathOf(
  { certificate, roots, chain }: ParsedFiles,
  nowMs: number,
): Promise<Result<readonly x509.X509Certificate[], AuthorityRejected>> {
  const isNow = (one: x509.X509Certificate): boolean => notNow(one, '', nowMs) === undefined;
  const path = await pathFrom(certificate, chain.filter(isNow), roots.filter(isNow));
  if (path !== undefined) return ok(path);
  for (const one of (await pathFrom(certificate, chain, roots)) ?? []) {
    const file = roots.includes(one) ? 'root-cert.pem' : 'cert-chain.pem';
    const why = notNow(one, `${one.subject} of ${file}`, nowMs);
    if (why !== undefined) return why;
  }
  return reject(
    'ca/no-path',
    'no chain leads from ca-cert.pem over cert-chain.pem to root-cert.pem',
  );
}

interface ParsedFiles {
  readonly certificate: x509.X509Certificate;
  readonly roots: readonly x509.X509Certificate[];
  readonly chain: readonly x509.X509Certificate[];
}

function parseFiles(files: AuthorityFiles): Result<ParsedFiles, AuthorityRejected> {
  const named = [
    ['ca-cert.pem', files.caCert],
    ['root-cert.pem', files.rootCert ?? files.caCert],
    ['cert-chain.pem', files.certChain ?? ''],
  ] as const;
  const all: x509.X509Certificate[][] = [];
  for (const [name, text] of named) {
    try {
      all.push(parseCertificates(text));
    } catch {
      return reject('ca/malformed', `${name} is no PEM of certificates`);
    }
  }
  const [own = [], roots = [], rest = []] = all;
  const certificate = own[0];
  if (certificate === undefined || roots.length === 0) {
    return reject('ca/malformed', 'ca-cert.pem and root-cert.pem must each hold a certificate');
  }
  // Istio's cert-chain.pem usually begins with ca-cert.pem itself.
  const seen = new Set([pem(certificate)]);
  const chain = [...own.slice(1), ...rest].filter((one) => {
    const text = pem(one);
    if (seen.has(text)) return false;
    seen.add(text);
    return true;
  });
  return ok({ certificate, roots, chain });
}

function parseCertificates(text: string): x509.X509Certificate[] {
  if (text.trim() === '') return [];
  const blocks = x509.PemConverter.decodeWithHeaders(text).filter(
    (one) => one.type === 'CERTIFICATE',
  );
  if (blocks.length === 0 || blocks.length > maxCertificates)
    throw new TypeError('no certificates');
  return blocks.map((one) => new x509.X509Certificate(one.rawData));
}

async function importKey(
  keyPem: string,
  certificate: x509.X509Certificate,
): Promise<
  Result<
    { key: webcrypto.CryptoKey; signingAlgorithm: Authority['signingAlgorithm'] },
    AuthorityRejected
  >
> {
  try {
    const key = createPrivateKey(keyPem);
    const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
    const certified = createPublicKey({
      key: Buffer.from(certificate.publicKey.rawData),
      type: 'spki',
      format: 'der',
    }).export({ type: 'spki', format: 'der' });
    if (!spki.equals(certified)) {
      return reject('ca/key-mismatch', 'ca-key.pem is not the key of ca-cert.pem');
    }
    const signing = signingOf(key.asymmetricKeyType, key.asymmetricKeyDetails?.namedCurve);
    if (signing === undefined) {
      return reject('ca/malformed', 'ca-key.pem must be an RSA or an EC key (P-256, P-384, P-521)');
    }
    const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
    const imported = await webcrypto.subtle.importKey('pkcs8', pkcs8, signing.import, false, [
      'sign',
    ]);
    return ok({ key: imported, signingAlgorithm: signing.sign });
  } catch {
    // The reason may quote the key.
    return reject('ca/malformed', 'ca-key.pem is no private key in PEM');
  }
}

function signingOf(type: string | undefined, curve: string | undefined) {
  if (type === 'rsa') {
    const sign: RsaSigning = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
    return { sign, import: sign };
  }
  const [namedCurve, hash] =
    type !== 'ec'
      ? []
      : curve === 'prime256v1'
        ? ['P-256', 'SHA-256']
        : curve === 'secp384r1'
          ? ['P-384', 'SHA-384']
          : curve === 'secp521r1'
            ? ['P-521', 'SHA-512']
            : [];
  if (namedCurve === undefined || hash === undefined) return undefined;
  const sign: EcdsaSigning = { name: 'ECDSA', hash };
  return { sign, import: { name: 'ECDSA', namedCurve } };
}

function isRoot(one: x509.X509Certificate, roots: readonly x509.X509Certificate[]): boolean {
  return roots.some((root) => root.equal(one)) || one.subject === one.issuer;
}

/** The shortest way; a root that signs itself is its own. */
async function pathFrom(
  start: x509.X509Certificate,
  chain: readonly x509.X509Certificate[],
  roots: readonly x509.X509Certificate[],
): Promise<readonly x509.X509Certificate[] | undefined> {
  const seen = new Set<x509.X509Certificate>();
  const ways: (readonly x509.X509Certificate[])[] = [[]];
  for (const way of ways) {
    const holder = way.at(-1) ?? start;
    const own = roots.find((root) => root.equal(holder));
    if (own !== undefined) return [...way, own];
    for (const root of roots) if (await isSignedBy(holder, root)) return [...way, root];
    for (const one of chain) {
      if (seen.has(one) || !maySign(one) || !(await isSignedBy(holder, one))) continue;
      seen.add(one);
      ways.push([...way, one]);
    }
  }
  return undefined;
}

async function isSignedBy(
  one: x509.X509Certificate,
  issuer: x509.X509Certificate,
): Promise<boolean> {
  if (one.issuer !== issuer.subject) return false;
  try {
    return await one.verify({ publicKey: issuer.publicKey, signatureOnly: true });
  } catch {
    return false;
  }
}

/** PEM with a final line feed. */
export function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem').trimEnd()}\n`;
}

function reject(
  code: AuthorityRejected['code'],
  message: string,
): Result<never, AuthorityRejected> {
  return err({ code, message });
}
