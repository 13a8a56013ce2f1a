import type {
  Locality,
  MtlsSettings,
  PolicyKey,
  ServiceMembership,
  TrustDomain,
  Workload,
  WorkloadKind,
} from '@ambit/api';
import { podUid, redirectionAnnotation } from '@ambit/api';

import type { PodRecord } from '../kube/decode/pod.ts';
import type { RevisionFacts } from './revision.ts';

/** What a workload takes from the cluster it is in. */
export interface ClusterFacts extends RevisionFacts {
  readonly clusterId: string;
  readonly trustDomain: TrustDomain;
  readonly rootNamespace: string;
  readonly clusterDomain: string;
}

export interface WorkloadParts {
  readonly pod: PodRecord;
  readonly locality: Locality | undefined;
  /** Network of the cluster; a pod's own label wins. */
  readonly network: string;
  readonly mtls: MtlsSettings;
  readonly policies: readonly PolicyKey[];
  readonly services: readonly ServiceMembership[];
  readonly waypoint: Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'>;
}

const tunnelLabel = 'networking.istio.io/tunnel';
export const networkLabel = 'topology.istio.io/network';

/** True for a pod that can be reached: it has an address and has not run to its end. */
export function isWorkload(pod: PodRecord): boolean {
  return pod.addresses.length > 0 && !hasEnded(pod);
}

/** A pod that succeeded or failed has given back its address, which another pod may have by now. */
export function hasEnded(pod: PodRecord): boolean {
  return pod.phase === 'Succeeded' || pod.phase === 'Failed';
}

export function compileWorkload(parts: WorkloadParts, cluster: ClusterFacts): Workload {
  const { pod } = parts;
  const { name, namespace, labels } = pod.meta;
  const owner = workloadOwner(pod);
  return {
    uid: podUid(cluster.clusterId, namespace, name),
    name,
    namespace,
    serviceAccount: pod.serviceAccount,
    trustDomain: cluster.trustDomain,
    addresses: pod.addresses,
    hostNetwork: pod.hostNetwork,
    node: pod.node,
    network: labels.get(networkLabel) ?? parts.network,
    clusterId: cluster.clusterId,
    locality: parts.locality ?? { region: '', zone: '', subzone: '' },
    tunnel: takesHbone(pod) ? 'hbone' : 'none',
    workloadName: owner.name,
    workloadKind: owner.kind,
    canonicalName:
      firstLabel(labels, ['service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app']) ??
      owner.name,
    canonicalRevision:
      firstLabel(labels, [
        'service.istio.io/canonical-revision',
        'app.kubernetes.io/version',
        'version',
      ]) ?? 'latest',
    mtls: parts.mtls,
    policies: parts.policies,
    services: parts.services,
    labels: [...labels].sort(([left], [right]) => (left < right ? -1 : 1)),
    ...parts.waypoint,
  };
}

/** The agent sets the annotation once the pod's traffic is taken; the label says that the pod does it itself. */
function takesHbone(pod: PodRecord): boolean {
  if (pod.hostNetwork) return false;
  return (
    pod.meta.annotations.get(redirectionAnnotation) === 'enabled' ||
    pod.meta.labels.get(tunnelLabel) === 'http'
  );
}

function firstLabel(
  labels: ReadonlyMap<string, string>,
  names: readonly string[],
): string | undefined {
  for (const name of names) {
    const value = labels.get(name);
    if (value !== undefined && value !== '') return value;
  }
  return undefined;
}

/** Name and kind under which users know the pod's owner: the Deployment, not its ReplicaSet. */
export function workloadOwner(pod: PodRecord): { kind: WorkloadKind; name: string } {
  const { owner, meta } = pod;
  switch (owner?.kind) {
    case 'ReplicaSet': {
      const hash = meta.labels.get('pod-template-hash') ?? '';
      if (hash !== '' && owner.name.endsWith(`-${hash}`)) {
        return { kind: 'deployment', name: owner.name.slice(0, -hash.length - 1) };
      }
      return { kind: 'pod', name: owner.name };
    }
    case 'Deployment':
      return { kind: 'deployment', name: owner.name };
    case 'DaemonSet':
      return { kind: 'daemonset', name: owner.name };
    case 'StatefulSet':
      return { kind: 'statefulset', name: owner.name };
    case 'Job': {
      // A CronJob names its Jobs after itself and the minute they were due.
      const scheduled = /^(.+)-\d{8,10}$/.exec(owner.name)?.[1];
      return scheduled === undefined
        ? { kind: 'job', name: owner.name }
        : { kind: 'cronjob', name: scheduled };
    }
    case undefined:
    default:
      return { kind: 'pod', name: meta.name };
  }
}
