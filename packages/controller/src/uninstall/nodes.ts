import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';

/** Names of the nodes whose kubelet speaks. Pods of the others stay as they were for as long as nobody says otherwise. */
export async function answeringNodes(client: KubeClient): Promise<ReadonlySet<string>> {
  // Any version will do, so that it costs a large cluster's API server little.
  const query = new Map([['resourceVersion', '0']]);
  const nodes = await client.request({ path: '/api/v1/nodes', query });
  return new Set(
    list(field(nodes, 'items'))
      .filter((node) => !isSilent(node))
      .map((node) => text(field(node, 'metadata', 'name'))),
  );
}

/** `Unknown` is what the node controller says when the kubelet has said nothing for a while; `False` it says itself. */
function isSilent(node: unknown): boolean {
  const ready = list(field(node, 'status', 'conditions')).find(
    (condition) => field(condition, 'type') === 'Ready',
  );
  return field(ready, 'status') === 'Unknown';
}
