import { parseTrustDomain } from '@ambit/api';
import type { Collection, Decode, Sources } from '@ambit/controller';
import { createMeshCollections, decode, SnapshotState } from '@ambit/controller';

/** How large the mesh is in which things change. */
export interface Scale {
  readonly services: number;
  readonly podsOfService: number;
  readonly namespaces: number;
}

/** An object as the API has it. */
export interface KubeObject {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** What bringing everything up to date took. */
export interface Cost {
  readonly ms: number;
  /** Values that were computed anew, and resources that proxies are told of. */
  readonly computed: number;
  readonly pushed: number;
}

/** The compiler of the controller, and nothing else of it. */
export interface World {
  put(object: KubeObject): void;
  remove(object: KubeObject): void;
  flush(): Cost;
}

export function createWorld(): World {
  const trustDomain = parseTrustDomain('cluster.local');
  if (!trustDomain.ok) throw new Error(trustDomain.error.message);
  const mesh = createMeshCollections({
    clusterId: 'Kubernetes',
    trustDomain: trustDomain.value,
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  const state = new SnapshotState(mesh.outputs);
  const kinds = kindsOf(mesh.sources);
  const storeOf = ({ kind }: KubeObject): Store => {
    const store = kinds.get(kind);
    if (store === undefined) throw new TypeError(`nothing compiles a ${kind}`);
    return store;
  };
  return {
    put: (object) => storeOf(object).put(object),
    remove: (object) => storeOf(object).remove(object),
    flush: () => {
      const before = sum(mesh.recomputations().values());
      const startedAt = performance.now();
      mesh.flush();
      const changed = state.takeChanged();
      const ms = performance.now() - startedAt;
      const computed = sum(mesh.recomputations().values()) - before;
      return { ms, computed, pushed: sum([...changed.values()].map(({ size }) => size)) };
    },
  };
}

interface Store {
  put(object: KubeObject): void;
  remove(object: KubeObject): void;
}

function kindsOf(sources: Sources): ReadonlyMap<string, Store> {
  const store = <R>(decodeOne: Decode<R>, collection: Collection<R>): Store => ({
    put: (object) => {
      const meta = decode.metadata(object);
      const decoded = meta && decodeOne(object, meta);
      if (decoded?.ok !== true) throw new TypeError(`${keyOf(object)} cannot be read`);
      collection.set(keyOf(object), decoded.value);
    },
    remove: (object) => collection.delete(keyOf(object)),
  });
  return new Map([
    ['Pod', store(decode.pod, sources.pods)],
    ['Service', store(decode.service, sources.services)],
    ['EndpointSlice', store(decode.endpointSlice, sources.endpointSlices)],
    ['AuthorizationPolicy', store(decode.authorizationPolicy, sources.policies)],
    ['PeerAuthentication', store(decode.peerAuthentication, sources.peerAuthentications)],
    ['Telemetry', store(decode.telemetry, sources.telemetries)],
    ['VirtualService', store(decode.virtualService, sources.virtualServices)],
    ['DestinationRule', store(decode.destinationRule, sources.destinationRules)],
    ['ServiceEntry', store(decode.serviceEntry, sources.serviceEntries)],
    ['WorkloadEntry', store(decode.workloadEntry, sources.workloadEntries)],
    ['HTTPRoute', store(decode.httpRoute, sources.httpRoutes)],
    ['ReferenceGrant', store(decode.referenceGrant, sources.referenceGrants)],
  ]);
}

function keyOf({ metadata: { namespace, name } }: KubeObject): string {
  return `${namespace}/${name}`;
}

/** Services with their pods, as a cluster has them. */
export function fill(world: World, scale: Scale): void {
  for (let service = 0; service < scale.services; service += 1) {
    const name = serviceOf(service);
    const namespace = namespaceOf(service, scale);
    const address = `10.96.${service >> 8}.${service & 255}`;
    world.put({
      kind: 'Service',
      metadata: { name, namespace },
      spec: {
        clusterIP: address,
        clusterIPs: [address],
        selector: { app: name },
        ports: [{ name: 'http', port: 80, targetPort: 8080 }],
      },
    });
    const first = service * scale.podsOfService;
    const numbers = Array.from({ length: scale.podsOfService }, (_, index) => first + index);
    for (const number of numbers) world.put(podOf(number, scale, 'v1'));
    world.put({
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-1`,
        namespace,
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints: numbers.map((number) => ({
        addresses: [addressOf(number)],
        conditions: { ready: true },
        targetRef: { kind: 'Pod', namespace, name: `pod-${number}`, uid: `uid-${number}` },
      })),
    });
  }
}

export function podOf(number: number, scale: Scale, version: string): KubeObject {
  const service = Math.floor(number / scale.podsOfService);
  return {
    kind: 'Pod',
    metadata: {
      name: `pod-${number}`,
      namespace: namespaceOf(service, scale),
      uid: `uid-${number}`,
      labels: { app: serviceOf(service), version },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
    },
    spec: { nodeName: `node-${number % 50}`, serviceAccountName: 'default' },
    status: {
      phase: 'Running',
      podIP: addressOf(number),
      podIPs: [{ ip: addressOf(number) }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

export function serviceOf(index: number): string {
  return `service-${index}`;
}

export function namespaceOf(service: number, { namespaces }: Scale): string {
  return `team-${service % namespaces}`;
}

function addressOf(number: number): string {
  return `10.${10 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}

function sum(numbers: Iterable<number>): number {
  let all = 0;
  for (const one of numbers) all += one;
  return all;
}
