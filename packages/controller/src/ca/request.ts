import type { KeyObject } from 'node:crypto';
import { createPublicKey } from 'node:crypto';

import type { Result } from '@ambit/api';
import { err, maxCsrBytes, ok } from '@ambit/api';

import { x509 } from './x509.ts';

export interface CsrRejected {
  readonly code: 'csr/too-big' | 'csr/malformed' | 'csr/bad-signature' | 'csr/weak-key';
  readonly message: string;
}

/** All that is taken from a certificate request. */
export interface RequestedKey {
  /** DER of the public key, written anew from the parsed key and not as it came. */
  readonly spki: Buffer<ArrayBuffer>;
  readonly kind: 'rsa' | 'ec' | 'ed25519';
}

const pemForm =
  /^\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END (?:NEW )?CERTIFICATE REQUEST-----\s*$/;
const minRsaBits = 2048;
/** Above this a signature check costs milliseconds that a stranger could make us spend. */
const maxRsaBits = 8192;
const minRsaExponent = 65_537n;
const curves: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

/** Takes the public key out of a request whose sender holds the private one; names and extensions are not read. */
export async function readRequest(csrPem: string): Promise<Result<RequestedKey, CsrRejected>> {
  if (Buffer.byteLength(csrPem) > maxCsrBytes) {
    return reject('csr/too-big', `the request is longer than ${maxCsrBytes} bytes`);
  }
  const base64 = pemForm.exec(csrPem)?.[1];
  if (base64 === undefined) return reject('csr/malformed', 'the request is no PEM of one PKCS#10');
  let csr: x509.Pkcs10CertificateRequest;
  let key: KeyObject;
  try {
    csr = new x509.Pkcs10CertificateRequest(Uint8Array.from(Buffer.from(base64, 'base64')));
    key = createPublicKey({ key: Buffer.from(csr.publicKey.rawData), type: 'spki', format: 'der' });
  } catch {
    return reject('csr/malformed', 'the request does not decode');
  }
  // Strength comes first: checking the signature of a huge key is work.
  const kind = acceptableKind(key);
  if (!kind.ok) return kind;
  let signed: boolean;
  try {
    signed = await csr.verify();
  } catch {
    signed = false;
  }
  if (!signed) return reject('csr/bad-signature', 'the request is not signed by its own key');
  const spki = Buffer.from(key.export({ type: 'spki', format: 'der' }));
  return ok({ spki, kind: kind.value });
}

function acceptableKind(key: KeyObject): Result<RequestedKey['kind'], CsrRejected> {
  const details = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa': {
      const bits = details.modulusLength ?? 0;
      const exponent = details.publicExponent ?? 0n;
      const good = bits >= minRsaBits && bits <= maxRsaBits && exponent >= minRsaExponent;
      return good && exponent % 2n === 1n
        ? ok('rsa')
        : reject(
            'csr/weak-key',
            `RSA needs ${minRsaBits} to ${maxRsaBits} bits and an exponent of 65537`,
          );
    }
    case 'ec':
      return curves.has(details.namedCurve ?? '')
        ? ok('ec')
        : reject('csr/weak-key', 'EC keys must be on P-256, P-384 or P-521');
    case 'ed25519':
      return ok('ed25519');
    default:
      return reject('csr/weak-key', 'the key must be RSA, EC or Ed25519');
  }
}

function reject(code: CsrRejected['code'], message: string): Result<never, CsrRejected> {
  return err({ code, message });
}
