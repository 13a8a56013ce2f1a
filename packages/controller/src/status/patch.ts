import type { KubeClient } from '../kube/client.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';

export interface StatusPatch {
  /** Path of the object. */
  readonly path: string;
  readonly meta: Metadata;
  readonly status: Readonly<Record<string, unknown>>;
}

/**
 * Writes a status onto the version that was judged; when the object has moved on, its next event brings us back. False
 * where there is no such object.
 */
export async function patchStatus(client: KubeClient, patch: StatusPatch): Promise<boolean> {
  try {
    await client.request({
      method: 'PATCH',
      path: `${patch.path}/status`,
      contentType: 'application/merge-patch+json',
      body: { metadata: { resourceVersion: patch.meta.resourceVersion }, status: patch.status },
    });
    return true;
  } catch (error) {
    const status = kubeStatus(error);
    if (status !== 404 && status !== 409) throw error;
    return status === 409;
  }
}
