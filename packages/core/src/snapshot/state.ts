import type {
  Cluster,
  Credential,
  Gateway,
  Hostname,
  IpAddress,
  MeshSettings,
  PolicyKey,
  PolicyTarget,
  RateLimitPolicy,
  RequestAuthentication,
  ResourceType,
  RouteTable,
  Service,
  ServiceKey,
  ServiceMembership,
  SnapshotVersion,
  Telemetry,
  Upsert,
  Workload,
  WorkloadUid,
} from '@ambit/api';
import type { ApplicablePolicies } from '../policy/authorize.ts';

export interface Endpoint {
  readonly workload: Workload;
  readonly membership: ServiceMembership;
}

/** A resource that came but could not be read, by name. It keeps its place, so that what needs it denies. */
export interface Undecodable {
  readonly type: ResourceType;
  readonly name: string;
}

/** The names that an update touched, by type. */
export type StateChanges = ReadonlyMap<ResourceType, ReadonlySet<string>>;

/** What a proxy knows of the mesh; read-only, consistent between two turns of the event loop. */
export interface MeshState {
  /** True once a whole snapshot has been applied (or loaded from disk). */
  readonly complete: boolean;
  mesh(): MeshSettings | undefined;
  workload(uid: WorkloadUid): Workload | undefined;
  /** The workload that has this address to itself; a pod on its host's network is found last. */
  workloadByAddress(ip: IpAddress): Workload | undefined;
  service(key: ServiceKey): Service | undefined;
  /** The service that a client of `namespace` means; without one, the service that everybody means. */
  serviceByVip(ip: IpAddress, namespace?: string): Service | undefined;
  serviceByHostname(hostname: Hostname, namespace?: string): Service | undefined;
  endpointsOf(service: ServiceKey): readonly Endpoint[];
  policiesFor(workload: Workload): ApplicablePolicies;
  /** The policies that a waypoint in `namespace` enforces for requests to these targets. */
  policiesForTargets(targets: readonly PolicyTarget[], namespace: string): ApplicablePolicies;
  /** An undecodable one stands for all that it might have demanded. */
  authenticationsForTargets(
    targets: readonly PolicyTarget[],
  ): readonly (RequestAuthentication | 'undecodable')[];
  authentications(): Iterable<RequestAuthentication>;
  gateway(name: string): Gateway | undefined;
  gateways(): Iterable<Gateway>;
  /** By `<namespace>/<name>`; only those of the proxy's own namespace are known. */
  credential(name: string): Credential | undefined;
  cluster(service: ServiceKey): Cluster | undefined;
  routes(service: ServiceKey): RouteTable | undefined;
  rateLimitPolicies(): Iterable<RateLimitPolicy>;
  telemetries(): Iterable<Telemetry>;
  /** Names and versions of what is held, to tell the controller on reconnecting. */
  held(): readonly {
    readonly type: ResourceType;
    readonly versions: readonly (readonly [string, SnapshotVersion])[];
  }[];
  /** All that is held, to be kept for the next start. */
  snapshot(): { readonly upserts: Upsert[]; readonly undecodable: Undecodable[] };
  workloads(): Iterable<Workload>;
  services(): Iterable<Service>;
  policyKeys(): Iterable<PolicyKey>;
  /** Calls `listener` after each update that changed something; returns how to stop. */
  subscribe(listener: (changes: StateChanges) => void): () => void;
}
