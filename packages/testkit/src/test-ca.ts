import 'reflect-metadata';
import { createPrivateKey, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { WorkloadCertificate } from '@ambit/core';
import { parseWorkloadCertificate } from '@ambit/core';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export interface IssueOptions {
  /** URIs of the leaf; exactly the identity by default. */
  readonly uris?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** Names beside the URIs, for a server that is found by them. */
  readonly names?: readonly { readonly type: 'dns' | 'ip'; readonly value: string }[];
  readonly isCa?: boolean;
  readonly usages?: readonly string[];
}

/** A certificate authority for tests, made anew each time. */
export interface TestCa {
  readonly rootPem: string;
  /** PEM chain and key of a leaf. */
  issue(uri: string, options?: IssueOptions): Promise<{ chain: string[]; privateKey: string }>;
  /** Signs the public key of a request; returns the chain. */
  sign(uri: string, csrPem: string, options?: IssueOptions): Promise<string[]>;
  /** A whole certificate that trusts this authority (and others, if given). */
  certificate(
    uri: string,
    options?: IssueOptions & { readonly roots?: readonly string[] },
  ): Promise<WorkloadCertificate>;
  /** A list of certificates that are good no more, as PEM. */
  revoke(certificates: readonly string[]): Promise<string>;
}

/** An authority that stands already, to sign in its place: PEM, the key as PKCS #8 of ECDSA P-256. */
export interface KnownCa {
  readonly certificate: string;
  readonly privateKey: string;
}

export async function makeTestCa(known?: KnownCa, name = 'O=cluster.local'): Promise<TestCa> {
  const { key, root } = known === undefined ? await newRoot(name) : await readRoot(known);

  let serial = known === undefined ? 1 : Date.now();
  const sign = async (
    uri: string,
    publicKey: webcrypto.CryptoKey | x509.PublicKey,
    options: IssueOptions,
  ): Promise<string> => {
    serial += 1;
    const leaf = await x509.X509CertificateGenerator.create({
      subject: '',
      issuer: root.subject,
      serialNumber: serial.toString(16).padStart(4, '0'),
      publicKey,
      signingKey: key,
      signingAlgorithm: algorithm,
      notBefore: options.notBefore ?? new Date(Date.now() - 120_000),
      notAfter: options.notAfter ?? new Date(Date.now() + 3_600_000),
      extensions: [
        new x509.BasicConstraintsExtension(options.isCa ?? false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          ...(options.usages ?? [
            x509.ExtendedKeyUsage.clientAuth,
            x509.ExtendedKeyUsage.serverAuth,
          ]),
        ]),
        new x509.SubjectAlternativeNameExtension(
          [
            ...(options.uris ?? [uri]).map((value) => ({ type: 'url', value }) as const),
            ...(options.names ?? []),
          ],
          true,
        ),
      ],
    });
    return leaf.toString('pem');
  };
  const issue: TestCa['issue'] = async (uri, options = {}) => {
    const leafKeys = await generate();
    const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', leafKeys.privateKey));
    const privateKey = `-----BEGIN PRIVATE KEY-----\n${der.toString('base64')}\n-----END PRIVATE KEY-----\n`;
    return { chain: [await sign(uri, leafKeys.publicKey, options)], privateKey };
  };
  const rootPem = root.toString('pem');
  return {
    rootPem,
    issue,
    async sign(uri, csrPem, options = {}) {
      return [await sign(uri, new x509.Pkcs10CertificateRequest(csrPem).publicKey, options)];
    },
    async certificate(uri, options = {}) {
      const parts = await issue(uri, options);
      const parsed = parseWorkloadCertificate({ ...parts, roots: options.roots ?? [rootPem] });
      if (!parsed.ok) throw new Error(parsed.error.message);
      return parsed.value;
    },
    async revoke(certificates) {
      const list = await x509.X509CrlGenerator.create({
        issuer: root.subject,
        thisUpdate: new Date(Date.now() - 60_000),
        nextUpdate: new Date(Date.now() + 3_600_000),
        signingAlgorithm: algorithm,
        signingKey: key,
        entries: certificates.map((pem) => ({
          serialNumber: new x509.X509Certificate(pem).serialNumber,
        })),
      });
      // The library's own word for the block is not the one that everybody reads.
      return list.toString('pem').replaceAll(/(BEGIN|END) CRL/g, '$1 X509 CRL');
    },
  };
}

interface Root {
  readonly key: webcrypto.CryptoKey;
  readonly root: x509.X509Certificate;
}

async function readRoot({ certificate, privateKey }: KnownCa): Promise<Root> {
  const der = createPrivateKey(privateKey).export({ type: 'pkcs8', format: 'der' });
  const key = await webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign']);
  return { key, root: new x509.X509Certificate(certificate) };
}

async function newRoot(name: string): Promise<Root> {
  const keys = await generate();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name,
    serialNumber: '01',
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 24 * 3_600_000),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
    ],
  });
  return { key: keys.privateKey, root };
}

async function generate(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}
