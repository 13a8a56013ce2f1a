import type { KubeClient } from '../kube/client.ts';

/** Sets a label of a namespace, or takes it away. */
export async function patchLabel(
  client: KubeClient,
  namespace: string,
  label: string,
  value: string | null,
): Promise<void> {
  await client.request({
    method: 'PATCH',
    path: `/api/v1/namespaces/${namespace}`,
    contentType: 'application/merge-patch+json',
    body: { metadata: { labels: { [label]: value } } },
  });
}
