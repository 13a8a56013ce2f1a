import type {
  AuthorizationPolicy,
  Cluster,
  Credential,
  Gateway,
  Hostname,
  IpAddress,
  MeshSettings,
  PolicyKey,
  PolicyTarget,
  Removal,
  RateLimitPolicy,
  RequestAuthentication,
  ResourceType,
  RouteTable,
  Service,
  ServiceKey,
  SnapshotVersion,
  Telemetry,
  Upsert,
  Workload,
  WorkloadUid,
} from '@ambit/api';
import { isPod, resourceTypes } from '@ambit/api';
import type { ApplicablePolicies } from '../policy/authorize.ts';
import { MultiIndex } from './multi-index.ts';
import type { Endpoint, MeshState, StateChanges, Undecodable } from './state.ts';

export interface StateUpdate {
  readonly upserts: readonly Upsert[];
  readonly undecodable: readonly Undecodable[];
  readonly removals: readonly Removal[];
  readonly complete: boolean;
}

/** The write side of the state; exactly one part of a program holds it. */
export interface MeshStateUpdater {
  apply(update: StateUpdate): StateChanges;
}

/** Makes an empty state: the view for everybody, the updater for one. */
export function createMeshState(): {
  readonly state: MeshState;
  readonly updater: MeshStateUpdater;
} {
  const store = new MeshStore();
  return { state: store, updater: store };
}

/** What an upsert leaves behind beside its resource. */
interface Held {
  readonly version: SnapshotVersion;
}

class MeshStore implements MeshState, MeshStateUpdater {
  complete = false;
  #mesh: MeshSettings | undefined;
  readonly #workloads = new Map<WorkloadUid, Workload>();
  readonly #services = new Map<ServiceKey, Service>();
  readonly #policies = new Map<PolicyKey, AuthorizationPolicy>();
  readonly #undecodablePolicies = new Set<PolicyKey>();
  readonly #authentications = new Map<string, RequestAuthentication>();
  readonly #undecodableAuthentications = new Set<string>();
  readonly #gateways = new Map<string, Gateway>();
  readonly #clusters = new Map<string, Cluster>();
  readonly #credentials = new Map<string, Credential>();
  readonly #routes = new Map<string, RouteTable>();
  readonly #telemetries = new Map<string, Telemetry>();
  readonly #rateLimits = new Map<string, RateLimitPolicy>();
  readonly #held = new Map<ResourceType, Map<string, Held>>(
    resourceTypes.map((type) => [type, new Map()]),
  );
  readonly #byAddress = new MultiIndex<IpAddress, WorkloadUid>();
  readonly #byVip = new MultiIndex<IpAddress, ServiceKey>();
  readonly #byHostname = new MultiIndex<Hostname, ServiceKey>();
  readonly #byService = new MultiIndex<ServiceKey, WorkloadUid>();
  readonly #byScope = new MultiIndex<string, PolicyKey>();
  readonly #policiesByTarget = new MultiIndex<string, PolicyKey>();
  readonly #authenticationsByTarget = new MultiIndex<string, string>();
  readonly #listeners = new Set<(changes: StateChanges) => void>();

  mesh(): MeshSettings | undefined {
    return this.#mesh;
  }

  workload(uid: WorkloadUid): Workload | undefined {
    return this.#workloads.get(uid);
  }

  workloadByAddress(ip: IpAddress): Workload | undefined {
    let entry: Workload | undefined;
    let onHost: Workload | undefined;
    // The newest first: while an address is being handed on, two pods can claim it.
    for (const uid of this.#byAddress.newestFirst(ip)) {
      const workload = this.#workloads.get(uid);
      if (workload === undefined) continue;
      // Whoever writes an address down does not take it from the pod that has it.
      if (!isPod(workload)) entry ??= workload;
      else if (!workload.hostNetwork) return workload;
      else onHost ??= workload;
    }
    return onHost ?? entry;
  }

  service(key: ServiceKey): Service | undefined {
    return this.#services.get(key);
  }

  serviceByVip(ip: IpAddress, namespace?: string): Service | undefined {
    return this.#meant(this.#byVip.newestFirst(ip), namespace);
  }

  serviceByHostname(hostname: Hostname, namespace?: string): Service | undefined {
    return this.#meant(this.#byHostname.newestFirst(hostname), namespace);
  }

  endpointsOf(service: ServiceKey): readonly Endpoint[] {
    const endpoints: Endpoint[] = [];
    for (const uid of this.#byService.get(service)) {
      const workload = this.#workloads.get(uid);
      const membership = workload?.services.find((candidate) => candidate.service === service);
      if (workload !== undefined && membership !== undefined)
        endpoints.push({ workload, membership });
    }
    return endpoints;
  }

  policiesFor(workload: Workload): ApplicablePolicies {
    const policies: AuthorizationPolicy[] = [];
    const missing: PolicyKey[] = [];
    const undecodable: PolicyKey[] = [];
    const scoped = [...this.#byScope.get(meshScope), ...this.#byScope.get(workload.namespace)];
    for (const key of scoped) {
      const policy = this.#policies.get(key);
      if (policy !== undefined) policies.push(policy);
    }
    for (const key of workload.policies) {
      const policy = this.#policies.get(key);
      if (policy !== undefined) policies.push(policy);
      else if (!this.#undecodablePolicies.has(key)) missing.push(key);
    }
    for (const key of this.#undecodablePolicies) {
      if (this.#mayConcern(key, workload)) undecodable.push(key);
    }
    return { policies, missing, undecodable };
  }

  policiesForTargets(targets: readonly PolicyTarget[], namespace: string): ApplicablePolicies {
    const keys = new Set(targets.flatMap((one) => [...this.#policiesByTarget.get(targetKey(one))]));
    const policies = [...keys].flatMap((key) => this.#policies.get(key) ?? []);
    const root = this.#mesh?.rootNamespace;
    // A policy is in the namespace of its target, or the root's; nobody knows which target it names.
    const concerned = new Set([namespace, ...targets.flatMap(namespaceOf)]);
    const undecodable = [...this.#undecodablePolicies].filter((key) => {
      const own = key.slice(0, key.indexOf('/'));
      return concerned.has(own) || own === root || root === undefined;
    });
    return { policies, missing: [], undecodable };
  }

  authenticationsForTargets(
    targets: readonly PolicyTarget[],
  ): readonly (RequestAuthentication | 'undecodable')[] {
    if (this.#undecodableAuthentications.size > 0) return ['undecodable'];
    const names = new Set(
      targets.flatMap((one) => [...this.#authenticationsByTarget.get(targetKey(one))]),
    );
    return [...names].flatMap((name) => this.#authentications.get(name) ?? []);
  }

  gateway(name: string): Gateway | undefined {
    return this.#gateways.get(name);
  }

  gateways(): Iterable<Gateway> {
    return this.#gateways.values();
  }

  cluster(service: ServiceKey): Cluster | undefined {
    return this.#clusters.get(service);
  }

  credential(name: string): Credential | undefined {
    return this.#credentials.get(name);
  }

  routes(service: ServiceKey): RouteTable | undefined {
    return this.#routes.get(service);
  }

  authentications(): Iterable<RequestAuthentication> {
    return this.#authentications.values();
  }

  rateLimitPolicies(): Iterable<RateLimitPolicy> {
    return this.#rateLimits.values();
  }

  telemetries(): Iterable<Telemetry> {
    return this.#telemetries.values();
  }

  held(): { type: ResourceType; versions: (readonly [string, SnapshotVersion])[] }[] {
    return [...this.#held].map(([type, names]) => ({
      type,
      versions: [...names].map(([name, { version }]) => [name, version] as const),
    }));
  }

  snapshot(): { upserts: Upsert[]; undecodable: Undecodable[] } {
    const upserts: Upsert[] = [];
    for (const [type, names] of this.#held) {
      for (const [name, { version }] of names) {
        const resource = this.#resource(type, name);
        if (resource !== undefined) upserts.push({ type, name, version, resource } as Upsert);
      }
    }
    const undecodable = [...this.#undecodablePolicies].map(
      (name) => ({ type: 'policy', name }) as const,
    );
    return { upserts, undecodable };
  }

  workloads(): Iterable<Workload> {
    return this.#workloads.values();
  }

  services(): Iterable<Service> {
    return this.#services.values();
  }

  policyKeys(): Iterable<PolicyKey> {
    return this.#policies.keys();
  }

  subscribe(listener: (changes: StateChanges) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Takes a whole update in one turn, so that no reader ever sees half of it. */
  apply({ upserts, undecodable, removals, complete }: StateUpdate): StateChanges {
    const changes = new Map<ResourceType, Set<string>>();
    const changed = (type: ResourceType, name: string): void => {
      const names = changes.get(type);
      if (names === undefined) changes.set(type, new Set([name]));
      else names.add(name);
    };
    // A removal goes first: what is removed and added in one update is there afterwards.
    for (const { type, name } of removals) {
      this.#remove(type, name);
      this.#held.get(type)?.delete(name);
      changed(type, name);
    }
    for (const upsert of upserts) {
      this.#remove(upsert.type, upsert.name);
      this.#insert(upsert);
      this.#held.get(upsert.type)?.set(upsert.name, { version: upsert.version });
      changed(upsert.type, upsert.name);
    }
    for (const { type, name } of undecodable) {
      this.#reject(type, name);
      changed(type, name);
    }
    if (complete) this.complete = true;
    if (changes.size > 0 || complete)
      for (const listener of [...this.#listeners]) listener(changes);
    return changes;
  }

  #insert(upsert: Upsert): void {
    switch (upsert.type) {
      case 'mesh':
        this.#mesh = upsert.resource;
        break;
      case 'workload':
        this.#insertWorkload(upsert.name, upsert.resource);
        break;
      case 'service':
        this.#insertService(upsert.name, upsert.resource);
        break;
      case 'policy':
        this.#policies.set(upsert.name, upsert.resource);
        this.#undecodablePolicies.delete(upsert.name);
        this.#insertScope(upsert.resource, upsert.name);
        break;
      case 'authentication':
        this.#authentications.set(upsert.name, upsert.resource);
        this.#undecodableAuthentications.delete(upsert.name);
        for (const target of upsert.resource.targets)
          this.#authenticationsByTarget.add(targetKey(target), upsert.name);
        break;
      case 'gateway':
        this.#gateways.set(upsert.name, upsert.resource);
        break;
      case 'credential':
        this.#credentials.set(upsert.name, upsert.resource);
        break;
      case 'cluster':
        this.#clusters.set(upsert.name, upsert.resource);
        break;
      case 'route':
        this.#routes.set(upsert.name, upsert.resource);
        break;
      case 'telemetry':
        this.#telemetries.set(upsert.name, upsert.resource);
        break;
      case 'rate-limit':
        this.#rateLimits.set(upsert.name, upsert.resource);
        break;
    }
  }

  #insertScope({ scope, namespace }: AuthorizationPolicy, key: PolicyKey): void {
    if (scope.kind === 'mesh' || scope.kind === 'namespace')
      this.#byScope.add(scope.kind === 'mesh' ? meshScope : namespace, key);
    if (scope.kind === 'targeted')
      for (const target of scope.targets) this.#policiesByTarget.add(targetKey(target), key);
  }

  #insertWorkload(uid: WorkloadUid, workload: Workload): void {
    this.#workloads.set(uid, workload);
    for (const ip of workload.addresses) this.#byAddress.add(ip, uid);
    for (const { service } of workload.services) this.#byService.add(service, uid);
  }

  #insertService(key: ServiceKey, service: Service): void {
    this.#services.set(key, service);
    for (const vip of service.vips) this.#byVip.add(vip, key);
    this.#byHostname.add(service.hostname, key);
  }

  /** Policies keep denying while they cannot be read; of anything else the last good one stays. */
  #reject(type: ResourceType, name: string): void {
    if (type !== 'policy' && type !== 'authentication') return;
    this.#remove(type, name);
    if (type === 'policy') this.#undecodablePolicies.add(name as PolicyKey);
    else this.#undecodableAuthentications.add(name);
  }

  #remove(type: ResourceType, name: string): void {
    switch (type) {
      case 'mesh':
        this.#mesh = undefined;
        break;
      case 'workload':
        this.#removeWorkload(name as WorkloadUid);
        break;
      case 'service':
        this.#removeService(name as ServiceKey);
        break;
      case 'policy':
        this.#removePolicy(name as PolicyKey);
        break;
      case 'authentication':
        this.#removeAuthentication(name);
        break;
      case 'gateway':
        this.#gateways.delete(name);
        break;
      case 'credential':
        this.#credentials.delete(name);
        break;
      case 'cluster':
        this.#clusters.delete(name);
        break;
      case 'route':
        this.#routes.delete(name);
        break;
      case 'telemetry':
        this.#telemetries.delete(name);
        break;
      case 'rate-limit':
        this.#rateLimits.delete(name);
        break;
    }
  }

  #removeWorkload(uid: WorkloadUid): void {
    const workload = this.#workloads.get(uid);
    if (workload === undefined) return;
    this.#workloads.delete(uid);
    for (const ip of workload.addresses) this.#byAddress.delete(ip, uid);
    for (const { service } of workload.services) this.#byService.delete(service, uid);
  }

  #removeService(key: ServiceKey): void {
    const service = this.#services.get(key);
    if (service === undefined) return;
    this.#services.delete(key);
    for (const vip of service.vips) this.#byVip.delete(vip, key);
    this.#byHostname.delete(service.hostname, key);
  }

  #removePolicy(key: PolicyKey): void {
    this.#undecodablePolicies.delete(key);
    const policy = this.#policies.get(key);
    if (policy === undefined) return;
    this.#policies.delete(key);
    const { scope, namespace } = policy;
    if (scope.kind === 'mesh' || scope.kind === 'namespace')
      this.#byScope.delete(scope.kind === 'mesh' ? meshScope : namespace, key);
    if (scope.kind === 'targeted')
      for (const target of scope.targets) this.#policiesByTarget.delete(targetKey(target), key);
  }

  #removeAuthentication(name: string): void {
    this.#undecodableAuthentications.delete(name);
    for (const target of this.#authentications.get(name)?.targets ?? [])
      this.#authenticationsByTarget.delete(targetKey(target), name);
    this.#authentications.delete(name);
  }

  /** A policy whose content is unknown may hold for all of its namespace, or for the mesh if that is the root. */
  #mayConcern(key: PolicyKey, workload: Workload): boolean {
    const namespace = key.slice(0, key.indexOf('/'));
    return (
      workload.policies.includes(key) ||
      namespace === workload.namespace ||
      namespace === (this.#mesh?.rootNamespace ?? namespace)
    );
  }

  #resource(type: ResourceType, name: string): Upsert['resource'] | undefined {
    switch (type) {
      case 'mesh':
        return this.#mesh;
      case 'workload':
        return this.#workloads.get(name as WorkloadUid);
      case 'service':
        return this.#services.get(name as ServiceKey);
      case 'policy':
        return this.#policies.get(name as PolicyKey);
      case 'authentication':
        return this.#authentications.get(name);
      case 'gateway':
        return this.#gateways.get(name);
      case 'credential':
        return this.#credentials.get(name);
      case 'cluster':
        return this.#clusters.get(name);
      case 'route':
        return this.#routes.get(name);
      case 'telemetry':
        return this.#telemetries.get(name);
      case 'rate-limit':
        return this.#rateLimits.get(name);
    }
  }

  /** A Service of the cluster, then an entry of the client's own namespace, then one that is shown to it. */
  #meant(keys: readonly ServiceKey[], namespace: string | undefined): Service | undefined {
    let shown: Service | undefined;
    let own: Service | undefined;
    for (const key of keys) {
      const service = this.#services.get(key);
      if (service === undefined) continue;
      if (service.entry === undefined) return service;
      const { visibleTo } = service;
      if (visibleTo !== undefined && !visibleTo.includes(namespace ?? '')) continue;
      if (service.namespace === namespace) own ??= service;
      shown ??= service;
    }
    return own ?? shown;
  }
}

// No namespace has this name.
const meshScope = '*';

function namespaceOf(target: PolicyTarget): readonly string[] {
  switch (target.kind) {
    case 'service':
      return [target.service.slice(0, target.service.indexOf('/'))];
    case 'gateway':
    case 'service-entry':
      return [target.namespace];
    case 'gateway-class':
      return [];
  }
}

function targetKey(target: PolicyTarget): string {
  switch (target.kind) {
    case 'service':
      return `service ${target.service}`;
    case 'gateway':
      return `gateway ${target.namespace}/${target.name}`;
    case 'service-entry':
      return `entry ${target.namespace}/${target.name}`;
    case 'gateway-class':
      return `class ${target.name}`;
  }
}
