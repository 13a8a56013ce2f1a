import type { MeshCluster } from './cluster.ts';
import { until } from './cluster.ts';

export interface RolledOut {
  readonly kind: 'Deployment' | 'DaemonSet';
  readonly namespace: string;
  readonly name: string;
}

interface Status {
  readonly metadata: { readonly generation: number };
  readonly spec: { readonly replicas?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
    readonly desiredNumberScheduled?: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
  };
}

/** What `kubectl rollout restart` does, and then waits until every pod is a new one that is available. */
export async function restart(
  mesh: MeshCluster,
  target: RolledOut,
  timeoutMs = 180_000,
): Promise<void> {
  const annotations = { 'kubectl.kubernetes.io/restartedAt': new Date().toISOString() };
  await mesh.patch(pathOf(target), { spec: { template: { metadata: { annotations } } } });
  await rolledOut(mesh, target, timeoutMs);
}

export async function rolledOut(
  mesh: MeshCluster,
  target: RolledOut,
  timeoutMs = 180_000,
): Promise<void> {
  const { kind } = target;
  await until(async () => {
    const { metadata, spec, status } = (await mesh.get(pathOf(target))) as Status;
    if ((status?.observedGeneration ?? 0) < metadata.generation) return undefined;
    const wanted = kind === 'Deployment' ? (spec.replicas ?? 1) : status?.desiredNumberScheduled;
    const counts =
      kind === 'Deployment'
        ? [status?.replicas, status?.updatedReplicas, status?.availableReplicas]
        : [status?.updatedNumberScheduled, status?.numberAvailable];
    return counts.every((count) => count === wanted) || undefined;
  }, timeoutMs);
}

function pathOf({ kind, namespace, name }: RolledOut): string {
  return `/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s/${name}`;
}
