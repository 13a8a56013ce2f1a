import { createHash } from 'node:crypto';

import type { KubeClient } from '../kube/client.ts';
import { field, text } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Authority } from './authority.ts';

/**
 * ConfigMap of the mesh's namespace that says by which authority it is signed, so that a controller which starts without
 * its Secret does not make another root. Whoever deletes it decides for one that is made by the controller.
 */
export const authorityMemory = 'ambit-authority';

const fingerprintKey = 'ca-cert.sha256';
const secretKey = 'secret';
const fieldManager = 'ambit-authority';

/** SHA-256 of the certificate that signs, in hexadecimal. */
export function fingerprintOf({ certificate }: Pick<Authority, 'certificate'>): string {
  return createHash('sha256').update(Buffer.from(certificate.rawData)).digest('hex');
}

/** By what the mesh was signed last. */
export interface Remembered {
  /** Name of its Secret. */
  readonly secret: string;
  readonly fingerprint: string;
}

/** Undefined when none is remembered. */
export async function rememberedAuthority(
  client: KubeClient,
  namespace: string,
): Promise<Remembered | undefined> {
  try {
    const found = await client.request({ path: `${collection(namespace)}/${authorityMemory}` });
    return {
      secret: text(field(found, 'data', secretKey)),
      fingerprint: text(field(found, 'data', fingerprintKey)) || 'unknown',
    };
  } catch (error) {
    if (kubeStatus(error) === 404) return undefined;
    throw error;
  }
}

export async function rememberAuthority(
  client: KubeClient,
  namespace: string,
  from: Remembered,
): Promise<void> {
  const known = await rememberedAuthority(client, namespace);
  if (known?.secret === from.secret && known.fingerprint === from.fingerprint) return;
  await client.request({
    method: 'PATCH',
    path: `${collection(namespace)}/${authorityMemory}`,
    query: new Map([
      ['fieldManager', fieldManager],
      ['force', 'true'],
    ]),
    contentType: 'application/apply-patch+yaml',
    body: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: authorityMemory, namespace },
      data: { [secretKey]: from.secret, [fingerprintKey]: from.fingerprint },
    },
  });
}

function collection(namespace: string): string {
  return `/api/v1/namespaces/${namespace}/configmaps`;
}
