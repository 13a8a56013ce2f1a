import { useWaypointLabel, useWaypointNamespaceLabel, waypointForLabel } from '@ambit/api';
import type { Kube, KubeObject } from '../kube.ts';
import { conditionOf } from './objects.ts';

/** One line of what is bound to a waypoint. */
export interface BoundRow {
  readonly kind: string;
  readonly name: string;
  readonly bound: string;
  /** Whether a policy makes its workloads refuse what did not come through the waypoint. */
  readonly required: string;
  readonly message: string;
}

const networking = '/apis/networking.istio.io/v1';
const listed: readonly (readonly [kind: string, path: string])[] = [
  ['Service', '/api/v1/services'],
  ['ServiceEntry', `${networking}/serviceentries`],
  ['WorkloadEntry', `${networking}/workloadentries`],
];

/** Everything in the cluster that is bound to a waypoint, or would be if that were allowed. */
export async function boundTo(kube: Kube, gateway: KubeObject): Promise<readonly BoundRow[]> {
  const namespaces = await kube.list('/api/v1/namespaces');
  const labels = new Map(namespaces.map(({ metadata }) => [metadata.name, metadata.labels ?? {}]));
  const isBound = (one: KubeObject): boolean => targetOf(one, labels) === keyOf(gateway);
  const rows: BoundRow[] = [];
  for (const [kind, path] of listed) {
    for (const one of await kube.listIfKnown(path)) {
      const { status, message } = conditionOf(one, 'istio.io/WaypointBound');
      // What the controller has said holds; before it has, a label alone binds nothing.
      if (!isBound(one) || status === 'Unknown') continue;
      const required = conditionOf(one, 'ambit.dev/WaypointRequired');
      rows.push({
        kind,
        name: keyOf(one),
        bound: status,
        required: required.status === 'True' ? 'True' : 'False',
        message: required.status === 'True' ? `${message}; ${required.message}` : message,
      });
    }
  }
  const purpose = gateway.metadata.labels?.[waypointForLabel] ?? 'service';
  if (purpose !== 'workload' && purpose !== 'all') return rows;
  for (const pod of await kube.list('/api/v1/pods')) {
    if (!isBound(pod) || pod.metadata.labels?.[gatewayLabel] !== undefined) continue;
    const message = 'reached by its address through the waypoint';
    rows.push({ kind: 'Pod', name: keyOf(pod), bound: 'True', required: '', message });
  }
  return rows;
}

const gatewayLabel = 'gateway.networking.k8s.io/gateway-name';

function keyOf({ metadata }: KubeObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

/** The waypoint that the labels of an object, or else of its namespace, name. */
function targetOf(
  { metadata }: KubeObject,
  namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>,
): string | undefined {
  const own = metadata.labels ?? {};
  const labels =
    own[useWaypointLabel] === undefined ? (namespaces.get(metadata.namespace ?? '') ?? {}) : own;
  const name = labels[useWaypointLabel];
  if (name === undefined || name === '' || name === 'none') return undefined;
  return `${labels[useWaypointNamespaceLabel] ?? metadata.namespace ?? ''}/${name}`;
}
