import { isDeepStrictEqual } from 'node:util';

import type { ServiceKey } from '@ambit/api';
import { bypassWaypointAnnotation, serviceKey, waypointClass } from '@ambit/api';

import type { Metadata } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import type { PodRecord } from '../kube/decode/pod.ts';
import type { ServiceRecord } from '../kube/decode/service.ts';
import type { ResolvedEntry } from '../translate/entry-claims.ts';
import { hostnameOf } from '../translate/istio-host.ts';
import type { CompiledPolicy } from '../translate/policy.ts';
import type { CompiledRequestAuthentication } from '../translate/request-authentication.ts';
import { selects } from '../translate/selector.ts';
import type { Binding } from '../translate/waypoint.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import { hasEnded } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted, Reader } from './derived.ts';
import type { EntryCollections } from './service-entries.ts';
import type { Labels } from './matches.ts';
import { bySelector, Matches } from './matches.ts';
import type { Sources } from './sources.ts';
import { only } from './version.ts';

/** What is refused because of a policy that only a waypoint can enforce, and who opts out of that. */
export interface Requirement {
  /** `<kind> <namespace>/<name>` of the policy. */
  readonly by: string;
  /** Who takes, for its annotation, what did not come through the waypoint. */
  readonly bypass?: {
    /** Whether nobody refuses. */
    readonly all: boolean;
    readonly who: string;
  };
}

export interface RequirementCollections {
  /** By `namespace/name` of a Service. */
  readonly requirements: Collection<Requirement>;
  /** By `namespace/name` of a ServiceEntry. */
  readonly entryRequirements: Collection<Requirement>;
  /** The policy of a Service of the namespace that selects the pod, whether or not it is among the endpoints yet. */
  requiredBySelector(read: Reader, pod: Pick<PodRecord, 'meta'>): string | undefined;
  bypasses(read: Reader, meta: Metadata): boolean;
}

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly policies: Collection<CompiledPolicy>;
  readonly noted: Noted;
  readonly authentications: Collection<CompiledRequestAuthentication>;
  readonly namespaceMetas: Collection<Pick<NamespaceRecord['meta'], 'labels' | 'annotations'>>;
  readonly bindings: Collection<Binding>;
  readonly entries: EntryCollections;
}

export function requirementStages(parts: Parts): RequirementCollections {
  const { namespaceMetas } = parts;
  const annotated = (read: Reader, namespace: string): boolean =>
    read.get(namespaceMetas, namespace)?.annotations.get(bypassWaypointAnnotation) === 'allow';
  const bypassOf = bypassReader(parts, annotated);
  const requirements = serviceStage(parts, bypassOf);
  const selecting = selectingStage(parts, requirements);
  return {
    requirements,
    entryRequirements: entryStage(parts, bypassOf),
    requiredBySelector: (read, { meta: { namespace, labels } }) =>
      read.matching(selecting, namespace, labels)[0]?.by,
    bypasses: (read, { namespace, annotations }) => {
      const own = annotations.get(bypassWaypointAnnotation);
      return own === undefined ? annotated(read, namespace) : own === 'allow';
    },
  };
}

type Selector = ReadonlyMap<string, string>;
type BypassReader = (
  read: Reader,
  namespace: string,
  selector: Selector | undefined,
) => Requirement['bypass'];

const maxNamed = 3;

function bypassReader(
  { sources }: Parts,
  annotated: (read: Reader, namespace: string) => boolean,
): BypassReader {
  return (read, namespace, selector) => {
    if (annotated(read, namespace)) return { all: true, who: `Namespace ${namespace}` };
    if (selector === undefined) return undefined;
    const found = read
      .find(sources.pods, 'bypassing', namespace)
      .filter((pod) => !hasEnded(pod) && selects(selector, pod.meta.labels))
      .map(({ meta }) => objectKey(meta))
      .sort();
    if (found.length === 0) return undefined;
    const named = found.slice(0, maxNamed).map((key) => `Pod ${key}`);
    const more = found.length - named.length;
    const selected = read
      .find(sources.pods, 'namespace', namespace)
      .filter((pod) => !hasEnded(pod) && selects(selector, pod.meta.labels));
    const who = `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
    return { all: selected.length <= found.length, who };
  };
}

function requirementOf(
  by: string | undefined,
  bypass: () => Requirement['bypass'],
): Requirement | undefined {
  if (by === undefined) return undefined;
  const opted = bypass();
  return { by, ...(opted === undefined ? {} : { bypass: opted }) };
}

function serviceStage(parts: Parts, bypassOf: BypassReader): Collection<Requirement> {
  const { graph, sources, cluster, bindings, noted } = parts;
  return noted(
    'requirements',
    graph.derive<ServiceRecord, Requirement>({
      name: 'requirements',
      primary: sources.services,
      derive: ({ meta, selector }, key, read) => {
        const binding = read.get(bindings, key);
        const gateway =
          binding === undefined || binding.kind === 'none' ? undefined : binding.gateway;
        const service = serviceKey(meta.namespace, hostnameOf(meta, cluster.clusterDomain));
        const by = requirement(read, parts, targetsOf(gateway, service));
        const chosen = selector.size === 0 ? undefined : selector;
        return only(
          key,
          requirementOf(by, () => bypassOf(read, meta.namespace, chosen)),
        );
      },
      equal: isDeepStrictEqual,
    }),
  );
}

interface Selecting {
  readonly namespace: string;
  readonly selector: Selector;
  readonly by: string;
}

/** Apart from Services, so that pods of a namespace without such policies depend on none of them. */
function selectingStage(
  { graph, sources, noted }: Parts,
  requirements: Collection<Requirement>,
): Matches<Selecting, Labels> {
  const selecting = noted(
    'selecting-requirements',
    graph.derive<ServiceRecord, Selecting>({
      name: 'selecting-requirements',
      primary: sources.services,
      derive: ({ meta, selector }, key, read) => {
        const by = read.get(requirements, key)?.by;
        const is = by !== undefined && selector.size > 0;
        return only<Selecting>(key, is ? { namespace: meta.namespace, selector, by } : undefined);
      },
      equal: isDeepStrictEqual,
    }),
  );
  return new Matches(
    selecting,
    bySelector<Selecting>({
      scope: ({ namespace }) => namespace,
      selector: ({ selector }) => selector,
    }),
  );
}

function entryStage(parts: Parts, bypassOf: BypassReader): Collection<Requirement> {
  const { graph, entries, noted } = parts;
  return noted(
    'entry-requirements',
    graph.derive<ResolvedEntry, Requirement>({
      name: 'entry-requirements',
      primary: entries.resolved,
      derive: ({ binding, entry }, key, read) => {
        const gateway = binding.kind === 'none' ? undefined : binding.gateway;
        const by = requirement(read, parts, targetsOf(gateway, undefined, key));
        const { namespace } = entry.meta;
        return only(
          key,
          requirementOf(by, () => bypassOf(read, namespace, entry.selector)),
        );
      },
      equal: isDeepStrictEqual,
    }),
  );
}

interface Requiring {
  readonly policies: Collection<CompiledPolicy>;
  readonly authentications: Collection<CompiledRequestAuthentication>;
}

/** The first policy on one of the targets that only a waypoint can enforce. */
export function requirement(
  read: Reader,
  { policies, authentications }: Requiring,
  targets: readonly string[],
): string | undefined {
  for (const target of targets) {
    const policy = read.find(policies, 'target', target).find(isEnforced)?.policy;
    if (policy !== undefined) return `AuthorizationPolicy ${policy.namespace}/${policy.name}`;
    const [found] = read.find(authentications, 'target', target);
    const authentication = found?.authentication;
    if (authentication !== undefined)
      return `RequestAuthentication ${authentication.namespace}/${authentication.name}`;
  }
  return undefined;
}

export function targetsOf(
  gateway?: string,
  service?: ServiceKey,
  entry?: string,
): readonly string[] {
  return [
    ...(gateway === undefined ? [] : [`class ${waypointClass}`, `gateway ${gateway}`]),
    ...(service === undefined ? [] : [`service ${service}`]),
    ...(entry === undefined ? [] : [`entry ${entry}`]),
  ];
}

/** A policy that only rehearses or tells closes nothing. */
function isEnforced({ policy }: CompiledPolicy): boolean {
  return policy !== undefined && !policy.dryRun && policy.action !== 'AUDIT';
}
