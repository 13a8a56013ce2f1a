import type { Gateway, Service, SpiffeId, WaypointFor, WaypointRef } from '@ambit/api';
import {
  gatewayNameLabel,
  hbonePort,
  makeSpiffeIdentity,
  parsePort,
  parseSpiffeIdentity,
  serviceKey,
  trustedForwardersAnnotation,
  useWaypointLabel,
  useWaypointNamespaceLabel,
  waypointClass,
  waypointForLabel,
  xfccClientIdentityAnnotation,
} from '@ambit/api';

import { Value } from 'typebox/value';

import type { GatewayRecord } from '../kube/decode/configuration.ts';
import type { Metadata, Problem, Report } from '../kube/decode/fields.ts';
import { field, objectKey, text } from '../kube/decode/fields.ts';
import type { GatewaySpec, LabelSelectorSpec } from '../resources/gateway.ts';
import { gatewaySpec } from '../resources/gateway.ts';
import { hostnameOf } from './istio-host.ts';
import type { NamespaceSelector } from './namespace-selector.ts';
import { holds } from './namespace-selector.ts';
import { isOurs, revisionLabel } from './revision.ts';
import type { ClusterFacts } from './workload.ts';

/** A Gateway of class `istio-waypoint` as it is understood. */
export interface CompiledWaypoint {
  readonly gateway: Gateway;
  /** Which namespaces' objects may be bound to it. */
  readonly allows: (namespace: string, labels: ReadonlyMap<string, string>) => boolean;
  readonly problems: readonly Problem[];
  /** Of another control plane, which deploys it and tells what became of it; undefined for one of ours. */
  readonly otherRevision?: string;
  readonly meta: Metadata;
  readonly status: unknown;
  /** Names of its listeners. */
  readonly listeners: readonly string[];
  /** `<namespace>/<name>` of the ConfigMap that says how it is deployed. */
  readonly parameters?: string;
  readonly infrastructure: {
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
}

const parsedPort = parsePort(hbonePort);
if (!parsedPort.ok) throw new TypeError(parsedPort.error.message);
const waypointPort = parsedPort.value;

/** Labels and annotations of a GatewayClass, which hold for those of its Gateways that do not say otherwise. */
export type ClassDefaults = Pick<Metadata, 'labels' | 'annotations'>;

const noDefaults: ClassDefaults = { labels: new Map(), annotations: new Map() };

/** Undefined for a Gateway that is none of ours. */
export function compileWaypoint(
  record: GatewayRecord,
  cluster: ClusterFacts,
  defaults?: ClassDefaults,
): CompiledWaypoint | undefined {
  const compiled = compileAnyWaypoint(record, cluster, defaults);
  return compiled?.otherRevision === undefined ? compiled : undefined;
}

/** A waypoint of whichever control plane: whoever is bound to it is, and its proxies are believed. */
export function compileAnyWaypoint(
  record: GatewayRecord,
  cluster: ClusterFacts,
  defaults: ClassDefaults = noDefaults,
): CompiledWaypoint | undefined {
  const { meta } = record;
  const spec = record.spec.ok ? record.spec.value : readableSpec(record.spec.error);
  if (spec.gatewayClassName !== waypointClass) return undefined;
  const problems: Problem[] = [...record.problems];
  const object = `Gateway ${objectKey(meta)}`;
  const report: Report = (field, message, admissible) => {
    problems.push({ object, field, message, ...(admissible && { admissible }) });
  };
  const listeners = spec.listeners ?? [];
  const listener = listeners.find(({ protocol }) => protocol === 'HBONE');
  if (listener === undefined) report('spec.listeners', 'has no listener of protocol HBONE');
  else if (listener.port !== hbonePort) report('spec.listeners[0].port', `must be ${hbonePort}`);
  if (listeners.length > 1) report('spec.listeners', 'a waypoint has one listener, mesh');
  const identity = makeSpiffeIdentity(cluster.trustDomain, meta.namespace, meta.name);
  if (!identity.ok) return undefined;
  return {
    gateway: {
      name: meta.name,
      namespace: meta.namespace,
      className: waypointClass,
      waypointFor: waypointFor(meta, defaults, report),
      identity: identity.value.uri,
      service: serviceKey(meta.namespace, hostnameOf(meta, cluster.clusterDomain)),
      xfccClientIdentity: namesClient(meta, defaults),
      trustedForwarders: trustedForwarders(meta, report),
    },
    allows: allowedBy(listener, meta.namespace),
    problems,
    ...otherRevision(meta, cluster),
    meta,
    status: record.status,
    listeners: listeners.map(({ name = '' }) => name),
    ...parametersOf(meta, spec, report),
    infrastructure: {
      labels: spec.infrastructure?.labels ?? {},
      annotations: spec.infrastructure?.annotations ?? {},
    },
  };
}

function otherRevision(
  { labels }: Metadata,
  cluster: ClusterFacts,
): Pick<CompiledWaypoint, 'otherRevision'> {
  const revision = labels.get(revisionLabel) ?? '';
  return revision === '' || isOurs(revision, cluster) ? {} : { otherRevision: revision };
}

/** Of one that breaks its schema: enough to tell its owner, and nobody is allowed more by it. */
function readableSpec(raw: unknown): GatewaySpec {
  const listeners = field(raw, 'listeners');
  return {
    gatewayClassName: text(field(raw, 'gatewayClassName')),
    ...(Value.Check(gatewaySpec.properties.listeners, listeners) ? { listeners } : {}),
  };
}

function parametersOf(
  { namespace }: Metadata,
  { infrastructure }: GatewaySpec,
  report: Report,
): Pick<CompiledWaypoint, 'parameters'> {
  const ref = infrastructure?.parametersRef;
  if (ref === undefined) return {};
  if ((ref.group ?? '') === '' && ref.kind === 'ConfigMap' && (ref.name ?? '') !== '')
    return { parameters: `${namespace}/${ref.name ?? ''}` };
  report(parametersField, 'must be a ConfigMap of the namespace (group "", kind ConfigMap)');
  return {};
}

export const parametersField = 'spec.infrastructure.parametersRef';

function trustedForwarders(
  meta: Metadata,
  report: (field: string, message: string) => void,
): readonly SpiffeId[] {
  const written = meta.annotations.get(trustedForwardersAnnotation) ?? '';
  return written
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
    .flatMap((one) => {
      const identity = parseSpiffeIdentity(one.startsWith('spiffe://') ? one : `spiffe://${one}`);
      if (identity.ok) return [identity.value.uri];
      report(
        `metadata.annotations[${trustedForwardersAnnotation}]`,
        `${JSON.stringify(one.slice(0, 100))} is no principal such as cluster.local/ns/NAMESPACE/sa/NAME`,
      );
      return [];
    });
}

function namesClient(meta: Metadata, defaults: ClassDefaults): boolean {
  const own = meta.annotations.get(xfccClientIdentityAnnotation);
  return (own ?? defaults.annotations.get(xfccClientIdentityAnnotation)) === 'true';
}

function waypointFor(meta: Metadata, defaults: ClassDefaults, report: Report): WaypointFor {
  const own = meta.labels.get(waypointForLabel);
  const written = own ?? defaults.labels.get(waypointForLabel) ?? 'service';
  const known = (['service', 'workload', 'all', 'none'] as const).find((one) => one === written);
  if (known === undefined) {
    const where = own === undefined ? `GatewayClass ${waypointClass}: ` : '';
    report(
      `${where}metadata.labels[${waypointForLabel}]`,
      'must be service, workload, all or none; service is assumed',
      own === undefined ? true : undefined,
    );
  }
  return known ?? 'service';
}

type Listener = NonNullable<GatewaySpec['listeners']>[number];

/** Of the namespaces whose objects may be bound the Gateway's own always is one. */
function allowedBy(listener: Listener | undefined, own: string): CompiledWaypoint['allows'] {
  const namespaces = listener?.allowedRoutes?.namespaces;
  const selector = selectorOf(namespaces?.selector ?? {});
  return (namespace, labels) =>
    namespace === own ||
    namespaces?.from === 'All' ||
    (namespaces?.from === 'Selector' && holds(selector, labels));
}

function selectorOf({ matchLabels, matchExpressions }: LabelSelectorSpec): NamespaceSelector {
  const expressions = (matchExpressions ?? []).map(({ key = '', operator = '', values }) => ({
    key,
    operator,
    values: new Set(values),
  }));
  return { labels: new Map(Object.entries(matchLabels ?? {})), expressions };
}

/** Whether, and to which waypoint, an object is bound. */
export type Binding =
  | { readonly kind: 'none' }
  | { readonly kind: 'bound'; readonly gateway: string; readonly ref: WaypointRef }
  /** It asks for a waypoint that it does not get: traffic is refused, not let past. */
  | {
      readonly kind: 'broken';
      readonly gateway: string;
      readonly ref: WaypointRef;
      readonly reason: 'WaypointMissing' | 'NotAllowed' | 'WaypointBlocked';
      readonly message: string;
    };

export interface Bindable {
  readonly meta: Metadata;
  readonly what: 'service' | 'workload';
}

export interface BindingWorld {
  readonly namespaceLabels: ReadonlyMap<string, string>;
  readonly clusterDomain: string;
  waypoint(key: string): CompiledWaypoint | undefined;
  /** Why what stands under the name of a waypoint is not it. */
  obstacle(key: string): string | undefined;
}

/** Reads `istio.io/use-waypoint` of an object and its namespace; the object's own wins, and `none` opts out. */
export function bindingOf({ meta, what }: Bindable, world: BindingWorld): Binding {
  // A waypoint's own pods and Service would send their traffic to themselves.
  if (meta.labels.has(gatewayNameLabel)) return { kind: 'none' };
  const own = meta.labels.get(useWaypointLabel);
  const labels = own === undefined ? world.namespaceLabels : meta.labels;
  const name = labels.get(useWaypointLabel);
  if (name === undefined || name === '' || name === 'none') return { kind: 'none' };
  const namespace = labels.get(useWaypointNamespaceLabel) ?? meta.namespace;
  const key = `${namespace}/${name}`;
  const waypoint = world.waypoint(key);
  const ref = refTo({ name, namespace }, world.clusterDomain);
  if (waypoint === undefined) {
    // A waypoint serves services unless it says more. Of one that is not there nothing more is known, but whoever
    // labels a workload by itself means the workload.
    if (what === 'workload' && own === undefined) return { kind: 'none' };
    const message = `there is no Gateway ${key} of class ${waypointClass}; traffic is refused until there is`;
    return { kind: 'broken', gateway: key, ref, reason: 'WaypointMissing', message };
  }
  const serves = waypoint.gateway.waypointFor;
  if (serves !== 'all' && serves !== what) return { kind: 'none' };
  if (!waypoint.allows(meta.namespace, world.namespaceLabels)) {
    const nowhere = refTo({ name: 'not-allowed', namespace: `${namespace}-` }, world.clusterDomain);
    const message = `Gateway ${key} allows no namespace ${meta.namespace} (allowedRoutes); traffic is refused`;
    return { kind: 'broken', gateway: key, ref: nowhere, reason: 'NotAllowed', message };
  }
  const obstacle = world.obstacle(key);
  if (obstacle !== undefined) {
    // Whoever has the name must not be taken for the waypoint.
    const nowhere = refTo({ name: 'blocked', namespace: `${namespace}-` }, world.clusterDomain);
    const message = `${obstacle}; traffic is refused`;
    return { kind: 'broken', gateway: key, ref: nowhere, reason: 'WaypointBlocked', message };
  }
  return { kind: 'bound', gateway: key, ref };
}

/** The Gateways whose objects stand under the name of one. */
export interface Holders {
  /** The uid of the Gateway whose Service it is, empty for one that is nobody's; undefined where there is none. */
  readonly service: string | undefined;
  /** Of the ServiceAccount; undefined where there is none or it is nobody's. */
  readonly account: string | undefined;
  /** Name of a pod that still runs under an earlier ServiceAccount of the name. */
  readonly earlier?: string | undefined;
}

/**
 * Pure: why a waypoint cannot be believed to be who bears its name. Its identity is that of a ServiceAccount: whatever
 * runs under one that is not the Gateway's own is not its proxy.
 */
export function obstacleOf(
  { meta, otherRevision }: Pick<CompiledWaypoint, 'meta' | 'otherRevision'>,
  { service, account, earlier }: Holders,
): string | undefined {
  const key = objectKey(meta);
  if (service !== undefined && service !== meta.uid)
    return `Service ${key} is not that of Gateway ${key}, which needs another name`;
  if (account !== meta.uid && otherRevision !== undefined)
    return `Gateway ${key} is of revision ${otherRevision}, and no Ambit of that revision has deployed it`;
  if (account !== meta.uid) return `Gateway ${key} has no ServiceAccount ${key} of its own`;
  if (earlier !== undefined)
    return `Pod ${meta.namespace}/${earlier} runs under an earlier ServiceAccount ${key} and has the identity of Gateway ${key} until it is deleted`;
  return undefined;
}

function refTo(name: { name: string; namespace: string }, clusterDomain: string): WaypointRef {
  const service = serviceKey(name.namespace, hostnameOf(name, clusterDomain));
  return { kind: 'service', service, port: waypointPort };
}

export type { Service };
