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
 * Writes a status onto the version that was judged, and throws when the object has moved on. False where there is no such
 * object.
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
    if (kubeStatus(error) !== 404) throw error;
    return false;
  }
}
