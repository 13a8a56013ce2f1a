import type {
  ConfigMap,
  DaemonSet,
  Deployment,
  Endpoints,
  EndpointSlice,
  Job,
  KubeEvent,
  KubeObject,
  Lease,
  Namespace,
  Node,
  Pod,
  ReplicaSet,
  Secret,
  Service,
  StatefulSet,
} from './objects.ts';

/** Names a resource and carries the type of its objects. */
export interface ResourceType<T extends KubeObject> {
  readonly group: string;
  readonly resource: string;
  readonly apiVersion: string;
  readonly kind: string;
  /** Never set: holds the type. */
  readonly object?: T;
}

export type ChangeKind = 'ADDED' | 'MODIFIED' | 'DELETED';

export interface Change<T extends KubeObject> {
  readonly kind: ChangeKind;
  readonly object: T;
}

export interface ListOptions {
  readonly namespace?: string;
}

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly uid?: string;
}

/**
 * What controllers and kubelets need of the Kubernetes API, in process. Failures carry the
 * API's `status` with its `code`: 404, 409 (already exists, or a stale resourceVersion), 422.
 */
export interface ClusterStore {
  get<T extends KubeObject>(
    type: ResourceType<T>,
    namespace: string,
    name: string,
  ): Promise<T | undefined>;
  list<T extends KubeObject>(type: ResourceType<T>, options?: ListOptions): Promise<T[]>;
  create<T extends KubeObject>(type: ResourceType<T>, object: T): Promise<T>;
  update<T extends KubeObject>(
    type: ResourceType<T>,
    object: T,
    subresource?: 'status',
  ): Promise<T>;
  delete<T extends KubeObject>(
    type: ResourceType<T>,
    namespace: string,
    name: string,
    options?: DeleteOptions,
  ): Promise<void>;
  /** Calls `listener` for every change from now on; what existed before may be told as ADDED. Returns how to stop. */
  observe<T extends KubeObject>(
    type: ResourceType<T>,
    listener: (change: Change<T>) => void,
  ): () => void;
}

function type<T extends KubeObject>(
  apiVersion: string,
  kind: string,
  resource: string,
): ResourceType<T> {
  const slash = apiVersion.indexOf('/');
  return { group: slash < 0 ? '' : apiVersion.slice(0, slash), resource, apiVersion, kind };
}

export const resources = {
  pods: type<Pod>('v1', 'Pod', 'pods'),
  nodes: type<Node>('v1', 'Node', 'nodes'),
  services: type<Service>('v1', 'Service', 'services'),
  endpoints: type<Endpoints>('v1', 'Endpoints', 'endpoints'),
  configMaps: type<ConfigMap>('v1', 'ConfigMap', 'configmaps'),
  secrets: type<Secret>('v1', 'Secret', 'secrets'),
  namespaces: type<Namespace>('v1', 'Namespace', 'namespaces'),
  serviceAccounts: type<KubeObject>('v1', 'ServiceAccount', 'serviceaccounts'),
  events: type<KubeEvent>('v1', 'Event', 'events'),
  leases: type<Lease>('coordination.k8s.io/v1', 'Lease', 'leases'),
  endpointSlices: type<EndpointSlice>('discovery.k8s.io/v1', 'EndpointSlice', 'endpointslices'),
  deployments: type<Deployment>('apps/v1', 'Deployment', 'deployments'),
  replicaSets: type<ReplicaSet>('apps/v1', 'ReplicaSet', 'replicasets'),
  daemonSets: type<DaemonSet>('apps/v1', 'DaemonSet', 'daemonsets'),
  statefulSets: type<StatefulSet>('apps/v1', 'StatefulSet', 'statefulsets'),
  jobs: type<Job>('batch/v1', 'Job', 'jobs'),
} as const;

/** The API's status code of a failed call, or undefined for any other failure. */
export function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('status' in error)) return undefined;
  const { status } = error;
  if (typeof status !== 'object' || status === null || !('code' in status)) return undefined;
  return typeof status.code === 'number' ? status.code : undefined;
}

export function isConflict(error: unknown): boolean {
  return statusOf(error) === 409;
}

export function isMissing(error: unknown): boolean {
  return statusOf(error) === 404;
}

const mutateAttempts = 8;

/** Reads, changes and writes one object, again when somebody wrote in between. `change` returns false to leave it. */
export async function mutate<T extends KubeObject>(
  store: ClusterStore,
  type: ResourceType<T>,
  key: { readonly namespace: string; readonly name: string; readonly uid?: string },
  change: (object: T) => boolean,
  subresource?: 'status',
): Promise<T | undefined> {
  for (let attempt = 1; ; attempt += 1) {
    const found = await store.get(type, key.namespace, key.name);
    if (found === undefined || (key.uid !== undefined && found.metadata.uid !== key.uid))
      return undefined;
    const copy = structuredClone(found);
    if (!change(copy)) return found;
    try {
      return await store.update(type, copy, subresource);
    } catch (error) {
      if (isMissing(error)) return undefined;
      if (!isConflict(error) || attempt === mutateAttempts) throw error;
    }
  }
}

export function keyOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}

export function splitKey(key: string): { namespace: string; name: string } {
  const slash = key.indexOf('/');
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
