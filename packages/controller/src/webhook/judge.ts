import { waypointClass } from '@ambit/api';

import type { MeshCollections } from '../collections/mesh.ts';
import type { Targeted } from '../collections/judged.ts';
import { blindTargets, missingTargets, peerRivals } from '../collections/judged.ts';
import { once } from '../collections/derived.ts';
import type { Decode } from '../kube/cache.ts';
import type { ConfigurationRecord } from '../kube/decode/configuration.ts';
import {
  decodeDestinationRule,
  decodeGateway,
  decodeGatewayClass,
  decodeGrpcRoute,
  decodeHttpRoute,
  decodeRateLimitPolicy,
  decodeReferenceGrant,
  decodeRequestAuthentication,
  decodeServiceEntry,
  decodeTcpRoute,
  decodeTelemetry,
  decodeTlsRoute,
  decodeVirtualService,
  decodeWorkloadEntry,
} from '../kube/decode/configuration.ts';
import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import { createMeshConfigDecoder, meshConfigMap } from '../kube/decode/mesh-config.ts';
import { decodeAuthorizationPolicy, decodePeerAuthentication } from '../kube/decode/policy.ts';
import type { PeerAuthenticationRecord, PolicyRecord } from '../kube/decode/policy.ts';
import type { Scope } from '../kube/scope.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import { resources } from '../resources/index.ts';
import { acceptance } from '../status/conditions.ts';
import { controllerName } from '../status/controller-name.ts';
import { classUnsupported } from '../status/gateway-class.ts';
import { compileWorkloadEntry } from '../translate/entry-endpoint.ts';
import { readBrokenRoute } from '../translate/gateway-broken.ts';
import type { AnyGatewayRoute, GatewayRouteKind } from '../translate/gateway-route.ts';
import { compileGatewayRoute } from '../translate/gateway-route.ts';
import { authorizersOf } from '../translate/mesh-config.ts';
import { compilePeerAuthentication } from '../translate/peer-authentication.ts';
import { compilePolicy } from '../translate/policy.ts';
import { compileRateLimitPolicy } from '../translate/rate-limit.ts';
import { compileRequestAuthentication } from '../translate/request-authentication.ts';
import { compileServiceEntry } from '../translate/service-entry.ts';
import { compileTelemetry } from '../translate/telemetry.ts';
import { compileWaypoint } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import {
  idleServiceEntry,
  idleWorkloadEntry,
  takenName,
  unboundHosts,
  unboundParents,
} from './effect.ts';
import { selectsNobody } from './selected.ts';
import { unservedClass, unservedParents } from './strangers.ts';

/** What an object is judged by: everything that is known now. */
export interface JudgeWorld {
  readonly collections: MeshCollections;
  readonly cluster: ClusterFacts;
  /** Of which namespaces objects are known. */
  readonly scope: Pick<Scope, 'includes'>;
}

/** Everything that compiling an object tells of it, with what depends on others marked as admissible. */
export type Judge = (object: unknown, meta: Metadata, world: JudgeWorld) => readonly Problem[];

/** The judge of a kind of resource by its group and plural; undefined for one that is not compiled. */
export function judgeOf(group: string, plural: string): Judge | undefined {
  return judges.get(`${group}/${plural}`);
}

function judgeBy<R>(
  decode: Decode<R>,
  problemsOf: (record: R, world: JudgeWorld) => readonly Problem[],
): Judge {
  return (object, meta, world) => {
    const decoded = decode(object, meta);
    return decoded.ok ? problemsOf(decoded.value, world) : [decoded.error];
  };
}

function withTargets(
  kind: string,
  subject: Targeted,
  problems: readonly Problem[],
  { collections: { sources }, cluster }: JudgeWorld,
): readonly Problem[] {
  return [
    ...problems,
    ...warned(kind, subject, missingTargets(once, sources, cluster, subject)),
    ...warned(
      kind,
      subject,
      isOfRequests(kind) ? blindTargets(once, sources, cluster, subject) : [],
    ),
  ];
}

/** These hold for requests alone. */
function isOfRequests(kind: string): boolean {
  return kind === 'RequestAuthentication' || kind === 'RateLimitPolicy';
}

function warned(
  kind: string,
  { meta }: { readonly meta: Metadata },
  told: readonly Pick<Problem, 'field' | 'message'>[],
): readonly Problem[] {
  const object = meta.namespace === '' ? `${kind} ${meta.name}` : `${kind} ${objectKey(meta)}`;
  return told.map((one) => ({ object, field: one.field, message: one.message, admissible: true }));
}

const authorizationPolicy = judgeBy(decodeAuthorizationPolicy, (policy, world) => {
  const { collections, cluster } = world;
  const config = collections.sources.meshConfig.get(`${cluster.rootNamespace}/istio`);
  const compiled = compilePolicy(policy, cluster, authorizersOf(config));
  const problems = [...compiled.problems];
  const action = compiled.policy?.action;
  const [first] = compiled.requestFields;
  const isUnderstood = problems.every((one) => one.admissible);
  if (isUnderstood && first !== undefined && action !== undefined) {
    const { requestFields } = compiled;
    const { generation } = policy.meta;
    const { message } = acceptance({ problems: [], requestFields, action, generation }, '');
    const object = `AuthorizationPolicy ${objectKey(policy.meta)}`;
    problems.push({ object, field: first, message, admissible: true });
  }
  problems.push(...unselected('AuthorizationPolicy', policy, world));
  return withTargets('AuthorizationPolicy', policy, problems, world);
});

function unselected(kind: string, one: Selecting, world: JudgeWorld): readonly Problem[] {
  const { collections, cluster } = world;
  const { namespace } = one.meta;
  // There it is for the workloads of all namespaces, and nobody goes through those.
  if (!one.spec.ok || namespace === cluster.rootNamespace) return [];
  const labels = new Map(Object.entries(one.spec.value.selector?.matchLabels ?? {}));
  return warned(
    kind,
    one,
    selectsNobody('spec.selector.matchLabels', labels, namespace, collections),
  );
}

/** What selects workloads by their labels. */
type Selecting = Pick<PolicyRecord | PeerAuthenticationRecord, 'meta' | 'spec'>;

const peerAuthentication = judgeBy(decodePeerAuthentication, (record, world) => {
  const { collections, cluster } = world;
  const compiled = compilePeerAuthentication(record, cluster.rootNamespace);
  return [
    ...compiled.problems,
    ...peerRivals(once, collections.peers, compiled).map((one): Problem => ({
      ...one,
      admissible: true,
    })),
    ...unselected('PeerAuthentication', record, world),
  ];
});

const requestAuthentication = judgeBy(decodeRequestAuthentication, (authentication, world) => {
  const { problems } = compileRequestAuthentication(authentication, world.cluster);
  return withTargets('RequestAuthentication', authentication, problems, world);
});

const telemetry = judgeBy(decodeTelemetry, (one, world) => {
  const of = world.collections.l7.telemetryWorld(once, one);
  return withTargets('Telemetry', one, compileTelemetry(one, of).problems, world);
});

const rateLimitPolicy = judgeBy(decodeRateLimitPolicy, (policy, world) => {
  const { problems } = compileRateLimitPolicy(policy, world.cluster);
  return withTargets('RateLimitPolicy', policy, problems, world);
});

const virtualService = judgeBy(decodeVirtualService, (one, { collections: { l7 } }) => {
  const compiled = l7.virtualServiceOf(once, one);
  const unbound = unboundHosts(once, compiled, l7);
  return [...compiled.problems, ...warned('VirtualService', one, unbound)];
});

const destinationRule = judgeBy(
  decodeDestinationRule,
  (rule, { collections: { l7 } }) => l7.destinationRuleOf(once, rule).problems,
);

function gatewayRoute<S>(kind: GatewayRouteKind, decode: Decode<ConfigurationRecord<S>>): Judge {
  return judgeBy(decode, ({ meta, spec, problems }, { collections, scope }) => {
    const { l7, sources } = collections;
    const broken = spec.ok ? undefined : readBrokenRoute(kind, spec.error, problems);
    const route = { kind, meta, spec: spec.ok ? spec.value : broken?.spec };
    const known = route as unknown as AnyGatewayRoute;
    const compiled = compileGatewayRoute(known, l7.routeWorld(once), broken);
    const refs = known.spec.parentRefs ?? [];
    const strangers = spec.ok ? unservedParents(refs, meta, { sources, scope }) : [];
    const strange = warned(kind, { meta }, [
      ...strangers,
      ...(spec.ok ? unboundParents(once, compiled, refs, l7) : []),
    ]);
    if (spec.ok && refs.length === 0 && known.spec.useDefaultGateways === undefined)
      return warned(kind, { meta }, [noParents]);
    // A route of other controllers is theirs to judge, and of one that is partly theirs they may do more than we.
    if (compiled.parents.length === 0)
      return [...compiled.problems.filter((one) => one.admissible), ...strange];
    if (compiled.parents.length === refs.length) return [...compiled.problems, ...strange];
    const all = compiled.problems.map((one): Problem => ({ ...one, admissible: true }));
    return [...all, ...strange];
  });
}

const noParents = {
  field: 'spec.parentRefs',
  message: 'is empty, so the route is for nothing; name a Service, a ServiceEntry or a Gateway',
};

/** Of another class it is none of ours, and is told where it is nobody's. */
const gateway = judgeBy(decodeGateway, (record, { collections, cluster }) => {
  const waypoint = compileWaypoint(record, cluster);
  if (waypoint !== undefined)
    return [
      ...waypoint.problems,
      ...warned('Gateway', record, takenName(waypoint, collections.sources)),
    ];
  const { spec } = record;
  const name = spec.ok ? (spec.value.gatewayClassName ?? '') : '';
  const message = unservedClass(name, collections.sources);
  if (message === undefined) return [];
  return warned('Gateway', record, [{ field: 'spec.gatewayClassName', message }]);
});

function bySchema<S>(decode: Decode<ConfigurationRecord<S>>): Judge {
  return judgeBy(decode, ({ problems }) => problems);
}

const judgesByKind: Readonly<Record<string, Judge>> = {
  AuthorizationPolicy: authorizationPolicy,
  PeerAuthentication: peerAuthentication,
  RequestAuthentication: requestAuthentication,
  VirtualService: virtualService,
  DestinationRule: destinationRule,
  ServiceEntry: judgeBy(decodeServiceEntry, (record, { collections }) => {
    const entry = compileServiceEntry(record);
    return [
      ...entry.problems,
      ...warned('ServiceEntry', record, idleServiceEntry(once, entry, collections)),
    ];
  }),
  WorkloadEntry: judgeBy(decodeWorkloadEntry, (record, { collections }) => {
    const entry = compileWorkloadEntry(record);
    return [
      ...entry.problems,
      ...warned('WorkloadEntry', record, idleWorkloadEntry(once, entry, collections)),
    ];
  }),
  Telemetry: telemetry,
  RateLimitPolicy: rateLimitPolicy,
  Gateway: gateway,
  GatewayClass: judgeBy(decodeGatewayClass, ({ meta, spec, problems }) => {
    const isOurs = spec.ok && spec.value.controllerName === controllerName;
    if (!isOurs || meta.name === waypointClass) return problems;
    const told = { field: 'metadata.name', message: classUnsupported };
    return [...problems, ...warned('GatewayClass', { meta }, [told])];
  }),
  HTTPRoute: gatewayRoute('HTTPRoute', decodeHttpRoute),
  GRPCRoute: gatewayRoute('GRPCRoute', decodeGrpcRoute),
  TCPRoute: gatewayRoute('TCPRoute', decodeTcpRoute),
  TLSRoute: gatewayRoute('TLSRoute', decodeTlsRoute),
  ReferenceGrant: bySchema(decodeReferenceGrant),
};

/** Of ConfigMaps the one with the mesh's configuration; should another be sent, nothing is said of it. */
const meshConfig: Judge = (object, meta, { cluster }) => {
  if (meta.namespace !== cluster.rootNamespace || meta.name !== meshConfigMap) return [];
  // A decoder of its own: what is judged must not become the last good one.
  const decoded = createMeshConfigDecoder(() => undefined)(object, meta);
  return decoded.ok ? decoded.value.problems : [decoded.error];
};

const judges: ReadonlyMap<string, Judge> = new Map([
  ...resources.map((resource): [string, Judge] => [
    `${resource.group}/${resource.plural}`,
    judgeOfResource(resource),
  ]),
  ['/configmaps', meshConfig],
]);

function judgeOfResource({ kind }: ResourceDefinition): Judge {
  const judge = judgesByKind[kind];
  if (judge === undefined) throw new TypeError(`nothing judges a ${kind}`);
  return judge;
}
