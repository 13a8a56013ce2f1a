import type { MeshCluster } from './mesh-cluster.ts';

export type { Asked, Hands, MeshCluster } from './mesh-cluster.ts';
export { until } from './mesh-cluster.ts';

/** The cluster that KUBECONFIG names, or one that is started for these tests. */
export async function startMesh(): Promise<MeshCluster> {
  const kubeconfig = process.env['KUBECONFIG'];
  if (kubeconfig === undefined) return (await import('./sandbox.ts')).startMeshSandbox();
  return (await import('./kubernetes.ts')).joinKubernetes(kubeconfig);
}
