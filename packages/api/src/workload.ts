import type { IpAddress, Port } from './address.ts';
import type { Brand } from './brand.ts';
import type { Hostname, ServiceKey } from './hostname.ts';
import type { SpiffeId, TrustDomain } from './identity.ts';
import type { LabelPairs } from './route.ts';
import type { PolicyKey } from './policy.ts';
import type { WaypointRef } from './waypoint.ts';

/** `<cluster>/<group>/<kind>/<namespace>/<name>`, as in Istio's workload API (contracts.md §6). */
export type WorkloadUid = Brand<string, 'WorkloadUid'>;

/** How the workload's node proxy takes traffic: `hbone` once its pod is captured. */
export type TunnelProtocol = 'none' | 'hbone';

/** What the inbound side demands of a connection that is not HBONE (PeerAuthentication, resolved). */
export type MtlsMode = 'STRICT' | 'PERMISSIVE' | 'DISABLE';

export interface MtlsSettings {
  readonly mode: MtlsMode;
  /** Modes of single ports, which win over `mode`. */
  readonly ports: readonly { readonly port: Port; readonly mode: MtlsMode }[];
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** A workload's membership in a service, from its EndpointSlices. */
export interface ServiceMembership {
  readonly service: ServiceKey;
  /** False while the endpoint must not get new connections (not ready, terminating). */
  readonly ready: boolean;
  /** Its share of what the service gets, beside those of the other endpoints; 1 where absent. */
  readonly weight?: number;
  readonly ports: readonly { readonly servicePort: Port; readonly targetPort: Port }[];
}

export type WorkloadKind = 'deployment' | 'daemonset' | 'statefulset' | 'job' | 'cronjob' | 'pod';

/** Something that has an address and an identity: a pod, later a VM. */
export interface Workload {
  readonly uid: WorkloadUid;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly trustDomain: TrustDomain;
  /** Empty until the pod has an address; several with dual stack. */
  readonly addresses: readonly IpAddress[];
  /** Instead of addresses: the name by which whoever calls it finds them. */
  readonly hostname?: Hostname;
  /** A hostNetwork pod: shares its address with its node and is never captured. */
  readonly hostNetwork: boolean;
  readonly node: string;
  readonly network: string;
  readonly clusterId: string;
  readonly locality: Locality;
  readonly tunnel: TunnelProtocol;
  /** Name and kind of the controller that made it, for telemetry. */
  readonly workloadName: string;
  readonly workloadKind: WorkloadKind;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly mtls: MtlsSettings;
  /** Policies that select this workload; mesh- and namespace-wide ones apply by their scope. */
  readonly policies: readonly PolicyKey[];
  readonly services: readonly ServiceMembership[];
  readonly waypoint?: WaypointRef;
  /** Labels of the pod, which subsets and routes may ask for. */
  readonly labels: LabelPairs;
  /** Who the waypoints are that serve this workload or a service of it: they may say whom they speak for. */
  readonly waypointIdentities: readonly SpiffeId[];
  /** The policy that only a waypoint can enforce here; what did not come through one is then refused. */
  readonly waypointRequiredBy?: string;
}

/** An endpoint that is written in a ServiceEntry. */
export function serviceEntryEndpointUid(
  clusterId: string,
  namespace: string,
  name: string,
  address: string,
): WorkloadUid {
  return `${clusterId}/networking.istio.io/ServiceEntry/${namespace}/${name}/${address}` as WorkloadUid;
}

export function workloadEntryUid(clusterId: string, namespace: string, name: string): WorkloadUid {
  return `${clusterId}/networking.istio.io/WorkloadEntry/${namespace}/${name}` as WorkloadUid;
}

/** An endpoint of an EndpointSlice that is no pod. */
export function endpointSliceUid(
  clusterId: string,
  namespace: string,
  name: string,
  address: string,
): WorkloadUid {
  return `${clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${address}` as WorkloadUid;
}

export function podUid(clusterId: string, namespace: string, name: string): WorkloadUid {
  return `${clusterId}//Pod/${namespace}/${name}` as WorkloadUid;
}

/** False for what a ServiceEntry or a WorkloadEntry speaks of. */
export function isPod({ uid }: Pick<Workload, 'uid'>): boolean {
  return !uid.includes('/networking.istio.io/');
}
