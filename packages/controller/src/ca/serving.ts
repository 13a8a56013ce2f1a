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
    { kind: 'server', names },
    time,
  );
  const lifeMs = signed.notAfter.getTime() - time.nowMs;
  return {
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    chainPem: signed.chain.join(''),
    // A third of its life, as every other certificate here.
    renewAtMs: time.nowMs + lifeMs / 3,
  };
}

/** The serving certificate as it is now, and whoever wants the next one. */
export interface ServingKeeper {
  current(): Serving;
  follow(use: (serving: Serving) => void): void;
  /** Looks at once whether another one is due. */
  check(): void;
  close(): void;
}

export interface ServingKeeperOptions {
  readonly authority: () => Authority | undefined;
  readonly names: readonly string[];
  readonly ttlMs: number;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
  readonly checkMs?: number;
}

const defaultCheckMs = 30_000;

/**
 * Renews the serving certificate at a third of its life, and when another authority signs. By the wall clock twice a
 * minute, so that a machine that slept catches up.
 */
export async function startServingKeeper(options: ServingKeeperOptions): Promise<ServingKeeper> {
  const { authority, names, ttlMs, nowMs } = options;
  const make = async () => {
    const signer = authority();
    if (signer === undefined) throw new TypeError('there is no certificate authority');
    return { signer, serving: await makeServing(signer, names, { nowMs: nowMs(), ttlMs }) };
  };
  let current = await make();
  const users: ((serving: Serving) => void)[] = [];
  const check = (): void => {
    if (nowMs() < current.serving.renewAtMs && current.signer === authority()) return;
    make().then((renewed) => {
      current = renewed;
      for (const use of users) use(renewed.serving);
    }, options.onError);
  };
  const timer = setInterval(check, options.checkMs ?? defaultCheckMs);
  return {
    current: () => current.serving,
    follow: (use) => void users.push(use),
    check,
    close: () => clearInterval(timer),
  };
}
