import { redirectionAnnotation } from '@ambit/api';
import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import { answeringNodes } from './nodes.ts';

/** Of a cluster of any size no more than so many pods are in memory at once. */
const pageSize = 250;

/**
 * A running pod that is in the mesh, on a node that answers and that has not left it, as `namespace/name on node`; undefined
 * where there is none.
 */
export async function someCapturedPod(
  client: KubeClient,
  left: ReadonlySet<string> = new Set(),
): Promise<string | undefined> {
  const nodes = await answeringNodes(client);
  for (let from = ''; ;) {
    const query = new Map([['limit', String(pageSize)]]);
    if (from !== '') query.set('continue', from);
    const page = await client.request({ path: '/api/v1/pods', query });
    const found = list(field(page, 'items')).find(
      (pod) =>
        !left.has(text(field(pod, 'spec', 'nodeName'))) &&
        field(pod, 'metadata', 'annotations', redirectionAnnotation) === 'enabled' &&
        text(field(pod, 'status', 'phase')) === 'Running' &&
        field(pod, 'metadata', 'deletionTimestamp') === undefined &&
        nodes.has(text(field(pod, 'spec', 'nodeName'))),
    );
    if (found !== undefined)
      return `${text(field(found, 'metadata', 'namespace'))}/${text(field(found, 'metadata', 'name'))} on ${text(field(found, 'spec', 'nodeName'))}`;
    from = text(field(page, 'metadata', 'continue'));
    if (from === '') return undefined;
  }
}
