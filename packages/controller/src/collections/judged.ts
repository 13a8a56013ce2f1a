import { isDeepStrictEqual } from 'node:util';

import type { PolicyTarget, ResourceType, Result, ServiceKey } from '@ambit/api';
import { declaredProtocol, waypointClass } from '@ambit/api';

import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { nameIn, objectKey } from '../kube/decode/fields.ts';
import { serviceObjectKey } from '../translate/istio-host.ts';
import type { CompiledPeerAuthentication } from '../translate/peer-authentication.ts';
import { olderProblems } from '../translate/peer-authentication.ts';
import type { CompiledPolicy } from '../translate/policy.ts';
import type { CompiledRateLimitPolicy } from '../translate/rate-limit.ts';
import type { CompiledRequestAuthentication } from '../translate/request-authentication.ts';
import type { TargetCluster, TargetedSpec } from '../translate/targets.ts';
import { placedTargets } from '../translate/targets.ts';
import type { CompiledTelemetry } from '../translate/telemetry.ts';
import type { Collection, ReadableCollection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import type { PeerFinders } from './peers.ts';
import type { Sources } from './sources.ts';
import { only } from './version.ts';

export interface Judgement {
  readonly problems: readonly Problem[];
  /** What nobody did wrong and should know. */
  readonly note?: string;
}

export interface JudgedCollections {
  readonly policies: ReadableCollection<Judgement>;
  readonly peerAuthentications: ReadableCollection<Judgement>;
  readonly authentications: ReadableCollection<Judgement>;
  readonly telemetries: ReadableCollection<Judgement>;
  readonly rateLimits: ReadableCollection<Judgement>;
}

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: TargetCluster;
  readonly noted: <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;
}

/** What has been compiled of them. */
interface Compiled {
  readonly policies: {
    readonly compiled: Collection<CompiledPolicy>;
    readonly peer: Collection<CompiledPeerAuthentication>;
    readonly peers: PeerFinders;
  };
  readonly l7: {
    readonly authentications: Collection<CompiledRequestAuthentication>;
    readonly telemetries: Collection<CompiledTelemetry>;
  };
  readonly rateLimits: { readonly compiled: Collection<CompiledRateLimitPolicy> };
}

/** What targets are read from. */
export interface Targeted {
  readonly meta: Metadata;
  readonly spec: Result<TargetedSpec & { readonly selector?: object | undefined }, unknown>;
}

/**
 * What is told of resources that are attached to targets: what was wrong with them when they were compiled, targets that
 * are not there, and what proxies report. Apart from what is compiled, so that nothing else is made anew for a message.
 */
export function judgedStages(
  parts: Parts,
  { policies, l7, rateLimits }: Compiled,
): JudgedCollections {
  const { sources } = parts;
  const { requestAuthentications, telemetries } = sources;
  return {
    policies: stage(parts, 'policy', sources.policies, policies.compiled),
    peerAuthentications: peerStage(parts, policies.peer, policies.peers),
    authentications: stage(parts, 'authentication', requestAuthentications, l7.authentications),
    telemetries: stage(parts, 'telemetry', telemetries, l7.telemetries),
    rateLimits: stage(parts, 'rate-limit', sources.rateLimitPolicies, rateLimits.compiled),
  };
}

const kinds = {
  policy: 'AuthorizationPolicy',
  authentication: 'RequestAuthentication',
  telemetry: 'Telemetry',
  'rate-limit': 'RateLimitPolicy',
} as const satisfies Partial<Record<ResourceType, string>>;

function stage<R extends Targeted, C extends Judgement>(
  { graph, sources, cluster, noted }: Parts,
  type: keyof typeof kinds,
  primary: Collection<R>,
  compiled: Collection<C>,
): Collection<Judgement> {
  return noted(
    `judged-${type}`,
    graph.derive<R, Judgement>({
      name: `judged-${type}`,
      primary,
      derive: (record, key, read) => {
        const of = read.get(compiled, key);
        if (of === undefined) return new Map<string, Judgement>();
        const object = `${kinds[type]} ${objectKey(record.meta)}`;
        const problems = [
          ...of.problems,
          ...missingTargets(read, sources, cluster, record).map((one) => ({ object, ...one })),
          ...reported(read, sources, type, key).map((one) => ({ object, ...one })),
        ];
        const note = ofRequests.has(type) ? unseen(read, sources, cluster, record) : undefined;
        return only(key, { problems, ...(note !== undefined && { note }) });
      },
      equal: isDeepStrictEqual,
    }),
  );
}

function peerStage(
  { graph, noted }: Parts,
  compiled: Collection<CompiledPeerAuthentication>,
  peers: PeerFinders,
): Collection<Judgement> {
  return noted(
    'judged-peer-authentication',
    graph.derive<CompiledPeerAuthentication, Judgement>({
      name: 'judged-peer-authentication',
      primary: compiled,
      derive: (one, key, read) =>
        only(key, { problems: [...one.problems, ...peerRivals(read, peers, one)] }),
      equal: isDeepStrictEqual,
    }),
  );
}

/** What others of its namespace take from a PeerAuthentication, which need not be stored yet. */
export function peerRivals(
  read: Reader,
  peers: PeerFinders,
  one: CompiledPeerAuthentication,
): readonly Problem[] {
  const { scope, namespace } = one;
  if (scope === 'workload') return [];
  const first = read.oldest(peers.wide, namespace, objectKey(one));
  if (first === undefined) return [];
  const { key, createdAtMs } = first;
  return olderProblems(one, [{ name: nameIn(key), namespace, scope, createdAtMs }]);
}

type Told = Omit<Problem, 'object'>;

/** The targets that are not there. */
export function missingTargets(
  read: Reader,
  sources: Sources,
  cluster: TargetCluster,
  { meta, spec }: Targeted,
): readonly Told[] {
  if (!spec.ok || spec.value.selector !== undefined) return [];
  const told = (): void => undefined;
  return placedTargets(spec.value, meta.namespace, cluster, told).flatMap(({ path, target }) => {
    const message = absence(read, sources, target);
    if (message === undefined) return [];
    return [{ field: `${path}.name`, message, reason: 'TargetNotFound' }];
  });
}

/** Kinds that hold for requests, and for nothing where no request can be seen. */
const ofRequests: ReadonlySet<ResourceType> = new Set(['authentication', 'rate-limit']);

/** Where a resource does not hold although it is attached there: on ports of which somebody says that they are no HTTP. */
function unseen(
  read: Reader,
  sources: Sources,
  cluster: TargetCluster,
  { meta, spec }: Targeted,
): string | undefined {
  if (!spec.ok || spec.value.selector !== undefined) return undefined;
  const places = placedTargets(spec.value, meta.namespace, cluster, () => undefined);
  const where = places.flatMap(({ target }) =>
    target.kind === 'service'
      ? unseenPorts(read, sources, target.service).told
      : ['ports that are declared as TCP or TLS'],
  );
  if (where.length === 0) return undefined;
  const told = [...new Set(where)].slice(0, maxToldProblems).join('; ');
  return `it does not hold where no request can be seen: ${told}`;
}

function unseenPorts(
  read: Reader,
  sources: Sources,
  service: ServiceKey,
): { readonly told: readonly string[]; readonly all: boolean } {
  const key = serviceObjectKey(service);
  const ports = read.get(sources.services, key)?.ports ?? [];
  const told = ports.flatMap((one) => {
    const protocol = declaredProtocol(one);
    if (protocol !== 'tcp' && protocol !== 'tls') return [];
    return [`port ${one.port} of Service ${key}, which is declared as ${protocol.toUpperCase()}`];
  });
  return { told, all: ports.length > 0 && told.length === ports.length };
}

/** The targets of which no port carries requests that can be seen: there the resource does nothing. */
export function blindTargets(
  read: Reader,
  sources: Sources,
  cluster: TargetCluster,
  { meta, spec }: Targeted,
): readonly Told[] {
  if (!spec.ok || spec.value.selector !== undefined) return [];
  const places = placedTargets(spec.value, meta.namespace, cluster, () => undefined);
  return places.flatMap(({ path, target }): Told[] => {
    if (target.kind !== 'service') return [];
    const { told, all } = unseenPorts(read, sources, target.service);
    if (!all) return [];
    const where = told.slice(0, maxToldProblems).join('; ');
    const message = `it does not hold where no request can be seen: ${where}; name the port http`;
    return [{ field: `${path}.name`, message }];
  });
}

/** Why there is nothing for which a target stands. */
function absence(read: Reader, sources: Sources, target: PolicyTarget): string | undefined {
  switch (target.kind) {
    case 'service': {
      const key = serviceObjectKey(target.service);
      return read.get(sources.services, key) === undefined
        ? `there is no Service ${key}`
        : undefined;
    }
    case 'service-entry': {
      const key = `${target.namespace}/${target.name}`;
      return read.get(sources.serviceEntries, key) === undefined
        ? `there is no ServiceEntry ${key}`
        : undefined;
    }
    case 'gateway': {
      const key = `${target.namespace}/${target.name}`;
      const gateway = read.get(sources.gateways, key);
      if (gateway === undefined) return `there is no Gateway ${key}`;
      const { spec } = gateway;
      return spec.ok && spec.value.gatewayClassName !== waypointClass
        ? `Gateway ${key} is no waypoint: its class is not ${waypointClass}`
        : undefined;
    }
    case 'gateway-class':
      return target.name === waypointClass
        ? undefined
        : `the class of waypoints is ${waypointClass}`;
  }
}

/** Replicas of a waypoint mostly report the same; one of them is named. */
function reported(
  read: Reader,
  sources: Sources,
  type: ResourceType,
  name: string,
): readonly Told[] {
  const told = new Map<string, Told>();
  for (const { proxy, problems } of read.find(sources.reports, 'resource', `${type} ${name}`)) {
    for (const one of problems.filter((each) => each.type === type && each.name === name)) {
      const message = `${one.message} (told by ${proxy})`;
      const key = JSON.stringify([one.field, one.message]);
      if (!told.has(key)) told.set(key, { field: one.field, message, reason: 'ReportedByProxy' });
    }
  }
  return [...told.values()].slice(0, maxToldProblems);
}

const maxToldProblems = 10;
