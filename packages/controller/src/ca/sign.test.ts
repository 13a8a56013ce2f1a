import { generateKeyPairSync, webcrypto, X509Certificate } from 'node:crypto';

import { beforeAll, describe, expect, test } from '@jest/globals';
import { makeSpiffeIdentity, maxCsrBytes } from '@ambit/api';
import forge from 'node-forge';

import { value } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import type { Authority } from './authority.ts';
import { loadAuthority, makeSelfSignedRoot } from './authority.ts';
import { readRequest } from './request.ts';
import { signCertificate } from './sign.ts';
import { x509 } from './x509.ts';

const hourMs = 3_600_000;
const nowMs = Date.parse('2026-06-01T12:00:00Z');
const identity = value(makeSpiffeIdentity(trustDomain(), 'shop', 'front'));
const p256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

type Extensions = ConstructorParameters<typeof x509.SubjectAlternativeNameExtension>[0];

async function csrWith(options: {
  readonly names?: Extensions;
  readonly more?: readonly x509.Extension[];
  readonly name?: string;
  readonly algorithm?: object;
}): Promise<string> {
  const algorithm = { ...p256, ...options.algorithm };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: algorithm,
    ...(options.name === undefined ? {} : { name: options.name }),
    extensions: [
      ...(options.names === undefined
        ? []
        : [new x509.SubjectAlternativeNameExtension(options.names)]),
      ...(options.more ?? []),
    ],
  });
  return csr.toString('pem');
}

/** Everything a certificate says beside its key, serial number and signature. */
function template(pem: string) {
  const der = forge.asn1.fromDer(forge.pem.decode(pem)[0]?.body ?? '');
  const tbs = (der.value as forge.asn1.Asn1[])[0]?.value as forge.asn1.Asn1[];
  // version, serial, algorithm, issuer, validity, subject, key, extensions
  return tbs
    .filter((_part, index) => index !== 1 && index !== 6)
    .map((part) => forge.asn1.toDer(part).toHex());
}

describe('whatever a request asks for, the certificate is ours', () => {
  let authority: Authority;
  let expected: readonly string[];
  const issue = async (csr: string): Promise<string> => {
    const key = value(await readRequest(csr));
    const signed = await signCertificate(
      authority,
      key,
      { kind: 'identity', identity },
      { nowMs, ttlMs: 24 * hourMs },
    );
    return signed.chain[0] ?? '';
  };
  beforeAll(async () => {
    authority = value(await loadAuthority(await makeSelfSignedRoot(trustDomain(), nowMs), nowMs));
    expected = template(
      await issue(await csrWith({ names: [{ type: 'url', value: identity.uri }] })),
    );
  });

  test('the template itself, read by OpenSSL', async () => {
    const leaf = new X509Certificate(await issue(await csrWith({})));
    const root = new X509Certificate(authority.rootsPem[0] ?? '');
    expect(leaf.subject).toBeUndefined();
    expect(leaf.subjectAltName).toBe(`URI:${identity.uri}`);
    expect(leaf.ca).toBe(false);
    expect(leaf.checkIssued(root)).toBe(true);
    expect(leaf.verify(root.publicKey)).toBe(true);
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect(new Date(leaf.validFrom).getTime()).toBe(nowMs - 5 * 60_000);
    expect(new Date(leaf.validTo).getTime()).toBe(nowMs + 24 * hourMs);
    expect(leaf.serialNumber).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  test.each<[string, Parameters<typeof csrWith>[0]]>([
    ['no names', {}],
    [
      'another identity',
      { names: [{ type: 'url', value: 'spiffe://cluster.local/ns/kube-system/sa/root' }] },
    ],
    [
      'two identities',
      {
        names: [
          { type: 'url', value: identity.uri },
          { type: 'url', value: 'spiffe://cluster.local/ns/a/sa/b' },
        ],
      },
    ],
    ['a DNS name', { names: [{ type: 'dns', value: 'istiod.istio-system.svc' }] }],
    [
      'a wildcard',
      {
        names: [
          { type: 'dns', value: '*' },
          { type: 'url', value: 'spiffe://*/ns/*/sa/*' },
        ],
      },
    ],
    ['an address', { names: [{ type: 'ip', value: '10.0.0.1' }] }],
    ['a mailbox', { names: [{ type: 'email', value: 'a@b.c' }] }],
    [
      'a NUL',
      {
        names: [
          { type: 'url', value: `${identity.uri}\u0000.evil` },
          { type: 'dns', value: 'a\u0000b' },
        ],
      },
    ],
    ['a common name', { name: 'CN=istiod.istio-system.svc, O=system:masters' }],
    ['to be an authority', { more: [new x509.BasicConstraintsExtension(true, 9, true)] }],
    [
      'to sign certificates',
      { more: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)] },
    ],
    [
      'code signing',
      { more: [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.codeSigning], true)] },
    ],
    [
      'a long name',
      { names: [{ type: 'url', value: `spiffe://cluster.local/${'a'.repeat(4000)}` }] },
    ],
    ['P-384', { algorithm: { namedCurve: 'P-384', hash: 'SHA-384' } }],
    ['P-521', { algorithm: { namedCurve: 'P-521', hash: 'SHA-512' } }],
    ['Ed25519', { algorithm: { name: 'Ed25519' } }],
  ])('%s', async (_name, options) => {
    expect(template(await issue(await csrWith(options)))).toEqual(expected);
  });

  test('RSA differs in key usage alone', async () => {
    const rsa = {
      name: 'RSASSA-PKCS1-v1_5',
      hash: 'SHA-256',
      publicExponent: new Uint8Array([1, 0, 1]),
      modulusLength: 2048,
    };
    const issued = forge.pki.certificateFromPem(
      await issue(await csrWith({ algorithm: rsa })).then((pem) => pem),
    );
    expect(issued.getExtension('keyUsage')).toMatchObject({
      critical: true,
      digitalSignature: true,
      keyEncipherment: true,
      keyCertSign: false,
    });
    expect(issued.getExtension('subjectAltName')).toMatchObject({
      critical: true,
      altNames: [{ type: 6, value: identity.uri }],
    });
    expect(issued.getExtension('basicConstraints')).toMatchObject({ cA: false });
    expect(issued.subject.attributes).toEqual([]);
  });

  test('serial numbers do not come twice', async () => {
    const csr = await csrWith({});
    const serials = new Set<string>();
    for (let index = 0; index < 50; index += 1)
      serials.add(new X509Certificate(await issue(csr)).serialNumber);
    expect(serials.size).toBe(50);
  });

  test('a certificate never outlives its signer', async () => {
    const key = value(await readRequest(await csrWith({})));
    const end = authority.certificate.notAfter.getTime();
    const signed = await signCertificate(
      authority,
      key,
      { kind: 'identity', identity },
      { nowMs: end - hourMs, ttlMs: 24 * hourMs },
    );
    expect(signed.notAfter.getTime()).toBe(end);
  });
});

describe('a certificate that holds for a short time', () => {
  const minuteMs = 60_000;

  // Proxies renew at a third of the time between its two dates.
  test.each([minuteMs, 3 * minuteMs, 10 * minuteMs, 24 * hourMs])(
    'of %d ms is not to be renewed as soon as it is there',
    async (ttlMs) => {
      const authority = value(
        await loadAuthority(await makeSelfSignedRoot(trustDomain(), nowMs), nowMs),
      );
      const key = value(await readRequest(await csrWith({})));
      const subject = { kind: 'identity', identity } as const;
      const end = authority.notAfter.getTime();
      for (const time of [
        { nowMs, ttlMs },
        { nowMs: end - ttlMs, ttlMs: 24 * hourMs },
      ]) {
        const { chain } = await signCertificate(authority, key, subject, time);
        const leaf = new X509Certificate(chain[0] ?? '');
        const [from, to] = [leaf.validFromDate.getTime(), leaf.validToDate.getTime()];
        expect(to).toBe(time.nowMs + ttlMs);
        expect(from + (to - from) / 3).toBeGreaterThanOrEqual(time.nowMs + ttlMs / 7);
      }
    },
  );
});

describe('a request is refused', () => {
  const code = async (csr: string) => {
    const read = await readRequest(csr);
    return read.ok ? 'accepted' : read.error.code;
  };
  const rsaCsr = (bits: number, e: number) => {
    const keys = generateKeyPairSync('rsa', { modulusLength: bits, publicExponent: e });
    const csr = forge.pki.createCertificationRequest();
    csr.publicKey = forge.pki.publicKeyFromPem(
      keys.publicKey.export({ type: 'spki', format: 'pem' }),
    );
    csr.sign(
      forge.pki.privateKeyFromPem(keys.privateKey.export({ type: 'pkcs1', format: 'pem' })),
      forge.md.sha256.create(),
    );
    return forge.pki.certificationRequestToPem(csr);
  };

  test.each([
    ['RSA of 1024 bits', () => rsaCsr(1024, 65_537)],
    ['RSA with exponent 3', () => rsaCsr(2048, 3)],
  ])('%s', async (_name, make) => {
    expect(await code(make())).toBe('csr/weak-key');
  });

  test('RSA of 2048 bits is accepted', async () => {
    expect(await code(rsaCsr(2048, 65_537))).toBe('accepted');
  });

  test.each(['prime192v1', 'secp224r1', 'secp256k1'])('a key on %s', async (namedCurve) => {
    // The key of a good request, replaced: strength is judged before the signature.
    const good = new x509.Pkcs10CertificateRequest(await csrWith({}));
    const weak = generateKeyPairSync('ec', { namedCurve }).publicKey.export({
      type: 'spki',
      format: 'der',
    });
    const der = forge.asn1.fromDer(
      forge.util.createBuffer(Buffer.from(good.rawData).toString('binary')),
    );
    const info = (der.value as forge.asn1.Asn1[])[0]?.value as forge.asn1.Asn1[];
    info[2] = forge.asn1.fromDer(forge.util.createBuffer(weak.toString('binary')));
    const body = forge.asn1.toDer(der).getBytes();
    const pem = forge.pem.encode({ type: 'CERTIFICATE REQUEST', body });
    expect(['csr/weak-key', 'csr/malformed']).toContain(await code(pem));
  });

  test('signed by another key', async () => {
    const csr = await csrWith({});
    const der = Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ''), 'base64');
    der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    expect(['csr/bad-signature', 'csr/malformed']).toContain(await code(pem));
  });

  test('longer than the limit', async () => {
    expect(await code(`${await csrWith({})}${'\n'.repeat(maxCsrBytes)}`)).toBe('csr/too-big');
  });

  test.each([
    ['empty', ''],
    ['no PEM', 'hello'],
    ['another PEM', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'],
    ['no DER', '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n'],
    [
      'nested without end',
      `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.alloc(9000, 0x30).toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`,
    ],
  ])('%s', async (_name, csr) => {
    expect(await code(csr)).toBe('csr/malformed');
  });

  test('two in one PEM', async () => {
    const csr = await csrWith({});
    expect(await code(`${csr}\n${csr}`)).toBe('csr/malformed');
  });

  test('every cut and a thousand flipped bits: refused, or the very key it was signed with', async () => {
    const csr = await csrWith({});
    const der = Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ''), 'base64');
    const good = value(await readRequest(csr)).spki;
    const armoured = (bytes: Buffer) =>
      `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    for (let index = 0; index < der.length; index += 1) {
      expect((await readRequest(armoured(der.subarray(0, index)))).ok).toBe(false);
    }
    for (let index = 0; index < 1000; index += 1) {
      const mutant = Buffer.from(der);
      const at = (index * 7919) % der.length;
      mutant[at] = (mutant[at] ?? 0) ^ (1 << (index % 8));
      const read = await readRequest(armoured(mutant));
      if (read.ok) expect(read.value.spki.equals(good)).toBe(true);
    }
  });
});
