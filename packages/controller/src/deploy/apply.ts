import type { KubeClient } from '../kube/client.ts';
import { field, text } from '../kube/decode/fields.ts';
import { KubeError, kubeStatus } from '../kube/error.ts';
import type { Deployed } from './objects.ts';

/** On what is deployed: the fencing token of the term in which it was written. */
export const termAnnotation = 'ambit.dev/term';

const fieldManager = 'ambit-gateway-deployer';

/**
 * Applies an object, on exactly the version that was looked at, and never over what a later term has written: a
 * controller that was stopped for a while and does not know yet that another writes now changes nothing.
 */
export async function applyFenced(
  client: KubeClient,
  { collection, object }: Deployed,
  token: number,
): Promise<void> {
  const path = `${collection}/${object.metadata.name}`;
  const found = await read(client, path);
  const before = Number(text(field(found, 'metadata', 'annotations', termAnnotation)));
  if (before > token) {
    throw new KubeError(`${path}: written in term ${before}, and this is term ${token}`, {
      status: 409,
      reason: 'Fenced',
    });
  }
  const resourceVersion = text(field(found, 'metadata', 'resourceVersion'));
  const { annotations } = object.metadata as { readonly annotations?: object };
  await client.request({
    method: 'PATCH',
    path,
    query: new Map([
      ['fieldManager', fieldManager],
      ['force', 'true'],
    ]),
    contentType: 'application/apply-patch+yaml',
    body: {
      ...object,
      metadata: {
        ...object.metadata,
        annotations: { ...annotations, [termAnnotation]: String(token) },
        ...(resourceVersion === '' ? {} : { resourceVersion }),
      },
    },
  });
}

async function read(client: KubeClient, path: string): Promise<unknown> {
  try {
    return await client.request({ path });
  } catch (error) {
    if (kubeStatus(error) === 404) return undefined;
    throw error;
  }
}
