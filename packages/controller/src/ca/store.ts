import type { TrustDomain } from '@ambit/api';

import type { KubeClient } from '../kube/client.ts';
import { field, text } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { AuthorityFiles } from './authority.ts';
import { makeSelfSignedRoot } from './authority.ts';

/** Secret of the self-made root, and the one with which users plug in their own, as Istio names them. */
export const selfSignedSecret = 'istio-ca-secret';
export const pluggedInSecret = 'cacerts';

/** Reads the files of Istio's Secret format; undefined when the object holds no authority. */
export function authorityFilesOf(secret: unknown): AuthorityFiles | undefined {
  const read = (key: string): string =>
    Buffer.from(text(field(secret, 'data', key)), 'base64').toString('utf8');
  const caCert = read('ca-cert.pem');
  const caKey = read('ca-key.pem');
  if (caCert === '' || caKey === '') return undefined;
  const rootCert = read('root-cert.pem');
  const certChain = read('cert-chain.pem');
  return {
    caCert,
    caKey,
    ...(rootCert === '' ? {} : { rootCert }),
    ...(certChain === '' ? {} : { certChain }),
  };
}

/** The Secret of that name, undefined when there is none. */
export async function readSecret(
  client: KubeClient,
  namespace: string,
  name: string,
): Promise<unknown> {
  try {
    return await client.request({ path: `/api/v1/namespaces/${namespace}/secrets/${name}` });
  } catch (error) {
    if (kubeStatus(error) === 404) return undefined;
    throw error;
  }
}

/** The self-made root; undefined when there is none. */
export async function readRoot(
  client: KubeClient,
  namespace: string,
): Promise<AuthorityFiles | undefined> {
  const existing = await readSecret(client, namespace, selfSignedSecret);
  return existing === undefined ? undefined : filesOrThrow(existing, namespace);
}

/**
 * The self-made root: read, or made and created. Of several controllers that start at once one creates it, and the
 * others read what it made.
 */
export async function readOrCreateRoot(
  client: KubeClient,
  namespace: string,
  trustDomain: TrustDomain,
  nowMs: number,
): Promise<AuthorityFiles> {
  const existing = await readRoot(client, namespace);
  if (existing !== undefined) return existing;
  const made = await makeSelfSignedRoot(trustDomain, nowMs);
  try {
    await client.request({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/secrets`,
      body: {
        apiVersion: 'v1',
        kind: 'Secret',
        type: 'istio.io/ca-root',
        metadata: { name: selfSignedSecret, namespace },
        data: {
          'ca-cert.pem': Buffer.from(made.caCert).toString('base64'),
          'ca-key.pem': Buffer.from(made.caKey).toString('base64'),
        },
      },
    });
    return made;
  } catch (error) {
    if (kubeStatus(error) !== 409) throw error;
    return filesOrThrow(await readSecret(client, namespace, selfSignedSecret), namespace);
  }
}

function filesOrThrow(secret: unknown, namespace: string): AuthorityFiles {
  const files = authorityFilesOf(secret);
  if (files !== undefined) return files;
  throw new TypeError(
    `Secret ${namespace}/${selfSignedSecret}: data needs ca-cert.pem and ca-key.pem; ` +
      'restore them, or delete the Secret to have a new root made',
  );
}
