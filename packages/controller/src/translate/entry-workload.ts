import type { MtlsSettings, PolicyKey, ServiceMembership, Workload, WorkloadUid } from '@ambit/api';

import type { EntryEndpoint } from './entry-endpoint.ts';
import type { ClusterFacts } from './workload.ts';

export interface EntryWorkloadParts {
  readonly uid: WorkloadUid;
  readonly name: string;
  readonly namespace: string;
  readonly endpoint: EntryEndpoint;
  readonly labels: ReadonlyMap<string, string>;
  readonly network: string;
  readonly mtls: MtlsSettings;
  readonly policies: readonly PolicyKey[];
  readonly services: readonly ServiceMembership[];
  readonly waypoint: Pick<Workload, 'waypoint' | 'waypointIdentities' | 'waypointRequiredBy'>;
}

export const tunnelLabel = 'networking.istio.io/tunnel';

/** A workload that is no pod: nobody captures its traffic, unless it says that it takes HBONE itself. */
export function compileEntryWorkload(parts: EntryWorkloadParts, cluster: ClusterFacts): Workload {
  const { endpoint, labels, name } = parts;
  return {
    uid: parts.uid,
    name,
    namespace: parts.namespace,
    serviceAccount: endpoint.serviceAccount === '' ? 'default' : endpoint.serviceAccount,
    trustDomain: cluster.trustDomain,
    addresses: endpoint.ip === undefined ? [] : [endpoint.ip],
    ...(endpoint.hostname === undefined ? {} : { hostname: endpoint.hostname }),
    hostNetwork: false,
    node: '',
    network: endpoint.network === '' ? parts.network : endpoint.network,
    clusterId: cluster.clusterId,
    locality: endpoint.locality,
    tunnel: labels.get(tunnelLabel) === 'http' ? 'hbone' : 'none',
    workloadName: name,
    workloadKind: 'pod',
    canonicalName: labels.get('service.istio.io/canonical-name') ?? labels.get('app') ?? name,
    canonicalRevision:
      labels.get('service.istio.io/canonical-revision') ?? labels.get('version') ?? 'latest',
    mtls: parts.mtls,
    policies: parts.policies,
    services: parts.services,
    labels: [...labels].sort(([left], [right]) => (left < right ? -1 : 1)),
    ...parts.waypoint,
  };
}
