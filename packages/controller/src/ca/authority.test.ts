import { webcrypto } from 'node:crypto';

import { beforeAll, describe, expect, test } from '@jest/globals';

import { value } from '../../test/records.ts';
import type { Authority, AuthorityFiles } from './authority.ts';
import { loadAuthority, newSerialNumber, pem } from './authority.ts';
import { signCertificate } from './sign.ts';
import { x509 } from './x509.ts';

const dayMs = 24 * 3_600_000;
const nowMs = Date.parse('2026-06-01T12:00:00Z');
const p256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

interface Made {
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
}
type CryptoKeyPair = Awaited<ReturnType<typeof newKeys>>;

interface Asked {
  readonly from?: number;
  readonly until?: number;
  readonly ca?: boolean;
  readonly usages?: x509.KeyUsageFlags | undefined;
}

const newKeys = () => webcrypto.subtle.generateKey(p256, true, ['sign', 'verify']);

/** A certificate by `issuer`, or by its own key; its days are counted from now. */
async function make(
  name: string,
  issuer: Made | undefined,
  asked: Asked = {},
  keys?: CryptoKeyPair,
): Promise<Made> {
  const own = keys ?? (await newKeys());
  const { keyCertSign } = x509.KeyUsageFlags;
  const usages = 'usages' in asked ? asked.usages : keyCertSign;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    subject: `CN=${name}`,
    issuer: issuer?.certificate.subject ?? `CN=${name}`,
    notBefore: new Date(nowMs + (asked.from ?? -100) * dayMs),
    notAfter: new Date(nowMs + (asked.until ?? 100) * dayMs),
    publicKey: own.publicKey,
    signingKey: (issuer?.keys ?? own).privateKey,
    signingAlgorithm: p256,
    extensions: [
      new x509.BasicConstraintsExtension(asked.ca ?? true, undefined, true),
      ...(usages === undefined ? [] : [new x509.KeyUsagesExtension(usages, true)]),
    ],
  });
  return { certificate, keys: own };
}

async function filesOf(
  signer: Made,
  roots: readonly Made[],
  chain: readonly Made[],
): Promise<AuthorityFiles> {
  const der = await webcrypto.subtle.exportKey('pkcs8', signer.keys.privateKey);
  const all = (made: readonly Made[]): string =>
    made.map(({ certificate }) => pem(certificate)).join('');
  return {
    caCert: pem(signer.certificate),
    caKey: x509.PemConverter.encode(der, 'PRIVATE KEY'),
    rootCert: all(roots),
    ...(chain.length === 0 ? {} : { certChain: all(chain) }),
  };
}

describe('an authority that is plugged in', () => {
  let root: Made;
  let between: Made;
  let signer: Made;
  const load = async (by: Made, roots: readonly Made[], chain: readonly Made[]) =>
    loadAuthority(await filesOf(by, roots, chain), nowMs);
  const refusal = async (by: Made, roots: readonly Made[], chain: readonly Made[]) => {
    const loaded = await load(by, roots, chain);
    return loaded.ok ? 'taken' : `${loaded.error.code}: ${loaded.error.message}`;
  };
  beforeAll(async () => {
    root = await make('root', undefined);
    between = await make('between', root);
    signer = await make('signer', between);
  });

  test('is refused where an intermediate has ended, which is named', async () => {
    const ended = await make('between', root, { until: -1 }, between.keys);
    expect(await refusal(signer, [root], [ended])).toMatch(
      /^ca\/expired: CN=between of cert-chain\.pem is valid from 2026-02-21\S* to 2026-05-31\S* only/,
    );
  });

  test('is refused where the only root has ended, which is named', async () => {
    const ended = await make('root', undefined, { until: -1 }, root.keys);
    expect(await refusal(signer, [ended], [between])).toMatch(
      /^ca\/expired: CN=root of root-cert\.pem /,
    );
  });

  test('is refused where it begins later, and so that one knows to try again', async () => {
    const later = await make('signer', between, { from: 1 }, signer.keys);
    expect(await refusal(later, [root], [between])).toMatch(/^ca\/not-yet-valid: ca-cert\.pem /);
    const laterBetween = await make('between', root, { from: 1 }, between.keys);
    expect(await refusal(signer, [root], [laterBetween])).toMatch(
      /^ca\/not-yet-valid: CN=between of cert-chain\.pem /,
    );
  });

  test('goes by what was renewed under the same key, in whatever order', async () => {
    const [endedBetween, endedRoot] = await Promise.all([
      make('between', root, { until: -1 }, between.keys),
      make('root', undefined, { until: -1 }, root.keys),
    ]);
    for (const chain of [
      [endedBetween, between],
      [between, endedBetween],
    ])
      expect(await refusal(signer, [endedRoot, root], chain)).toBe('taken');
  });

  test('is refused where what lies between may not sign', async () => {
    const leaf = await make('between', root, { ca: false }, between.keys);
    expect(await refusal(signer, [root], [leaf])).toMatch(/^ca\/no-path: /);
  });

  test('may leave open what its key is for, as OpenSSL makes roots', async () => {
    const open = await make('open', undefined, { usages: undefined });
    expect(await refusal(open, [open], [])).toBe('taken');
    const other = await make('other', undefined, { usages: x509.KeyUsageFlags.cRLSign });
    expect(await refusal(other, [other], [])).toMatch(/^ca\/not-an-authority: /);
  });

  test('ends, and what it signs, with the first of its chain', async () => {
    const short = await make('between', root, { until: 2 }, between.keys);
    const authority: Authority = value(await load(signer, [root], [short]));
    const end = nowMs + 2 * dayMs;
    expect(authority.notAfter.getTime()).toBe(end);
    const { publicKey } = await newKeys();
    const spki = Buffer.from(await webcrypto.subtle.exportKey('spki', publicKey));
    const subject = { kind: 'server', names: ['a'] } as const;
    const time = { nowMs, ttlMs: 30 * dayMs };
    const signed = await signCertificate(authority, { spki, kind: 'ec' }, subject, time);
    expect(signed.notAfter.getTime()).toBe(end);
  });
});
