import type {
  AuthorizationPolicy,
  MeshSettings,
  Result,
  Service,
  Upsert,
  Workload,
} from '@ambit/api';
import {
  decodeMesh,
  decodePolicy,
  decodeService,
  decodeWith,
  decodeWorkload,
  policyKey,
  serviceKey,
} from '@ambit/api';

/** Whole, valid nouns for tests; whatever matters to a test is given, the rest stands. */
export function aWorkload(fields: Readonly<Record<string, unknown>> = {}): Workload {
  const name = typeof fields['name'] === 'string' ? fields['name'] : 'a';
  const namespace = typeof fields['namespace'] === 'string' ? fields['namespace'] : 'test';
  return decoded(decodeWorkload, {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    serviceAccount: name,
    trustDomain: 'cluster.local',
    addresses: ['10.0.0.1'],
    hostNetwork: false,
    node: 'node-1',
    network: '',
    clusterId: 'Kubernetes',
    locality: { region: 'r', zone: 'z', subzone: '' },
    tunnel: 'hbone',
    workloadName: name,
    workloadKind: 'deployment',
    canonicalName: name,
    canonicalRevision: 'v1',
    mtls: { mode: 'PERMISSIVE', ports: [] },
    policies: [],
    services: [],
    labels: [],
    waypointIdentities: [],
    ...fields,
  });
}

export function aService(fields: Readonly<Record<string, unknown>> = {}): Service {
  const name = typeof fields['name'] === 'string' ? fields['name'] : 'svc';
  return decoded(decodeService, {
    name,
    namespace: 'test',
    hostname: `${name}.test.svc.cluster.local`,
    vips: ['10.96.0.1'],
    ipFamilies: ['IPv4'],
    ports: [{ name: 'http', port: 80, appProtocol: '' }],
    loadBalancing: { mode: 'any' },
    publishNotReady: false,
    withoutWaypoint: 'refuse',
    ...fields,
  });
}

export function aPolicy(fields: Readonly<Record<string, unknown>> = {}): AuthorizationPolicy {
  return decoded(decodePolicy, {
    name: 'p',
    namespace: 'test',
    action: 'DENY',
    scope: { kind: 'namespace' },
    dryRun: false,
    rules: [],
    ...fields,
  });
}

export function aMesh(fields: Readonly<Record<string, unknown>> = {}): MeshSettings {
  return decoded(decodeMesh, {
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    roots: [],
    clusterId: 'Kubernetes',
    rootNamespace: 'istio-system',
    providers: [],
    defaultProviders: { metrics: ['prometheus'], accessLogging: ['envoy'], tracing: [] },
    traceSamplingPercent: 1,
    ...fields,
  });
}

/** Upserts of nouns, under their own names. */
export function upserts(nouns: {
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly policies?: readonly AuthorizationPolicy[];
}): Upsert[] {
  const version = 'v' as Upsert['version'];
  return [
    ...(nouns.policies ?? []).map((resource): Upsert => ({
      type: 'policy',
      name: policyKey(resource.namespace, resource.name),
      version,
      resource,
    })),
    ...(nouns.services ?? []).map((resource): Upsert => ({
      type: 'service',
      name: serviceKey(resource.namespace, resource.hostname),
      version,
      resource,
    })),
    ...(nouns.workloads ?? []).map((resource): Upsert => ({
      type: 'workload',
      name: resource.uid,
      version,
      resource,
    })),
  ];
}

/** Decodes what a test writes, or says what is wrong with it. */
export function decoded<T>(decoder: Parameters<typeof decodeWith<T>>[0], value: unknown): T {
  const outcome = decodeWith(decoder, value);
  if (!outcome.ok) throw new TypeError(outcome.error.message);
  return outcome.value;
}

/** The value of a result that a test knows to be good. */
export function good<T>(result: Result<T, unknown>): T {
  if (!result.ok) throw new TypeError(JSON.stringify(result.error));
  return result.value;
}
