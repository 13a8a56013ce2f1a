import { generateKeyPairSync } from 'node:crypto';

import type { Authority } from './authority.ts';
import { signCertificate } from './sign.ts';

/** A key made here, with a certificate of our own authority for the control port. */
export interface Serving {
  readonly keyPem: string;
  readonly chainPem: string;
  readonly renewAtMs: number;
}

/** The names under which proxies reach the controller, Istio's own among them. */
export function servingNames(
  rootNamespace: string,
  clusterDomain: string,
  more: readonly string[],
): string[] {
  const service = `ambit-controller.${rootNamespace}.svc`;
  return [
    'ambit-controller',
    `ambit-controller.${rootNamespace}`,
    service,
    `${service}.${clusterDomain}`,
    `istiod.${rootNamespace}.svc`,
    ...more,
  ];
}

export async function makeServing(
  authority: Authority,
  names: readonly string[],
  time: { readonly nowMs: number; readonly ttlMs: number },
): Promise<Serving> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = Buffer.from(publicKey.export({ type: 'spki', format: 'der' }));
  const signed = await signCertificate(
    authority,
    { spki, kind: 'ec' },
    { kind: 'dns', names },
    time,
  );
  const lifeMs = signed.notAfter.getTime() - time.nowMs;
  return {
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    chainPem: signed.chain.join(''),
    // A third of its life, as every other certificate here.
    renewAtMs: time.nowMs + lifeMs / 3,
  };
}
