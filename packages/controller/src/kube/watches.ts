import { gatewayManagedLabel } from '@ambit/api';

import type { Collection } from '../collections/collection.ts';
import type { Sources } from '../collections/sources.ts';
import type { Log } from '../log.ts';
import type { Decode } from './cache.ts';
import type { KubeClient } from './client.ts';
import {
  decodeDestinationRule,
  decodeGateway,
  decodeGatewayClass,
  decodeGrpcRoute,
  decodeHttpRoute,
  decodeReferenceGrant,
  decodeTcpRoute,
  decodeTlsRoute,
  decodeRateLimitPolicy,
  decodeRequestAuthentication,
  decodeServiceEntry,
  decodeTelemetry,
  decodeVirtualService,
  decodeWorkloadEntry,
} from './decode/configuration.ts';
import { decodeControlPlane } from './decode/control-plane.ts';
import { decodeEndpointSlice } from './decode/endpoint-slice.ts';
import type { Problem } from './decode/fields.ts';
import { createMeshConfigDecoder, meshConfigMap } from './decode/mesh-config.ts';
import { decodeNamespace } from './decode/namespace.ts';
import { decodeNode } from './decode/node.ts';
import { decodeGatewayAccount, decodeGatewayDeployment, managedBy } from './decode/owner.ts';
import { decodePod } from './decode/pod.ts';
import { decodeAuthorizationPolicy, decodePeerAuthentication } from './decode/policy.ts';
import { decodeService } from './decode/service.ts';
import { controlPlaneLabels, endpointsOfPlanes } from '../rivals.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import {
  referenceGrantResource,
  tcpRouteResource,
  tlsRouteResource,
} from '../resources/gateway-api.ts';
import { guardScope, tellWaiting } from './guarded-scope.ts';
import type { KindWatch, KindWatchOptions } from './kind-watch.ts';
import { createKindWatch } from './kind-watch.ts';
import type { ReflectorTimings } from './reflector.ts';
import type { Scope } from './scope.ts';
import type { NamespaceLimit, Place } from './watch-plan.ts';
import { everywhere, isCrowded, limitOfFew, limitOfMany, placesOf } from './watch-plan.ts';

export interface WatchesOptions {
  readonly client: KubeClient;
  readonly sources: Sources;
  /** Of which namespaces objects are watched and held. */
  readonly scope: Scope;
  readonly rootNamespace: string;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
  /** Some source has changed. */
  readonly onChange: () => void;
}

/** The watches of everything that is compiled. */
export interface Watches {
  readonly synced: boolean;
  /** Settles once every kind has been listed. */
  readonly whenSynced: Promise<void>;
  /** Kinds that have not been listed yet, and why where that is told. */
  awaited(): readonly string[];
  /** Milliseconds since each kind's most silent watch showed a sign of life. */
  ages(): ReadonlyMap<string, number>;
  /** What is wrong with objects that could not be read, by kind and key. */
  problems(): readonly Problem[];
  close(): Promise<void>;
}

/** What has no namespace, or is read in all of them. */
const unscoped: ReadonlySet<string> = new Set([
  'Namespace',
  'ConfigMap',
  'Node',
  'GatewayClass',
  'ControlPlane',
  'ControlPlaneEndpoints',
]);
/** Of these a cluster has many, and they change all the time. */
const manyKinds: ReadonlySet<string> = new Set(['Pod', 'Service', 'EndpointSlice']);
/** These make workloads and services known: of a namespace they are read once everything else of it was. */
const guardedKinds: ReadonlySet<string> = new Set([...manyKinds, 'ServiceEntry', 'WorkloadEntry']);
/** What tells where others are watched: these wait for it, lest they be read where they are not wanted. */
const tellsWhere: ReadonlySet<string> = new Set(['Namespace', 'ConfigMap', 'ControlPlane']);
/** Of these nothing but metadata is read: the status of a Node is long, and changes. */
const metadataKinds: ReadonlySet<string> = new Set([
  'Namespace',
  'Node',
  'ServiceAccount',
  'Deployment',
  'ControlPlane',
]);

export function startWatches(options: WatchesOptions): Watches {
  const { sources } = options;
  const problems = new Map<string, Problem>();
  const where = createWhere(options, () => kinds);
  let settle: () => void = () => undefined;
  const whenSynced = new Promise<void>((resolve) => (settle = resolve));
  const kinds: KindWatch[] = [];
  let closed = false;
  const check = (): void => {
    if (closed || kinds.some(({ kind, synced }) => tellsWhere.has(kind) && !synced)) return;
    where.begin();
    for (const one of kinds) one.start();
    if (kinds.every(({ synced }) => synced)) settle();
  };
  const follow = (which: (kind: string) => boolean): void => {
    for (const one of kinds) if (!closed && which(one.kind)) one.follow();
  };
  const known = soon(() => {
    if (!closed && where.look()) follow((kind) => guardedKinds.has(kind));
  });
  const watch: Watch = (kind, from, decode, into, extra = {}) => {
    const [path = '', ...otherPaths] = typeof from === 'string' ? [from] : from;
    kinds.push(
      createKindWatch({
        ...where.of(kind),
        ...shared(options, kind, problems),
        ...extra,
        kind,
        paths: [path, ...otherPaths],
        decode,
        into,
        optional: path.startsWith(gatewayApi) || path.startsWith('/apis/ambit.dev/'),
        onSync: check,
        onListed: known,
      }),
    );
  };
  watchCluster(watch, options, () =>
    kinds.some(({ kind, synced }) => kind === 'ConfigMap' && !synced),
  );
  watchSecurity(watch, sources);
  watchTraffic(watch, sources);
  options.scope.onChange(
    soon(() => {
      if (closed) return;
      where.look();
      follow((kind) => !unscoped.has(kind));
    }),
  );
  sources.controlPlanes.onChange(soon(() => follow((kind) => kind === 'ControlPlaneEndpoints')));
  for (const one of kinds) if (tellsWhere.has(one.kind)) one.start();
  return {
    get synced() {
      return kinds.every(({ synced }) => synced);
    },
    whenSynced,
    awaited: () =>
      kinds
        .filter(({ synced }) => !synced)
        .map(({ kind, why }) => (why === undefined ? kind : `${kind} (${why})`)),
    ages: () => new Map(kinds.map((one) => [one.kind, one.ageMs()])),
    problems: () => [...problems.values()],
    close: async () => {
      closed = true;
      where.close();
      await Promise.all(kinds.map(async (one) => one.close()));
    },
  };
}

interface Where {
  of(kind: string): Pick<KindWatchOptions<unknown>, 'places' | 'includes'>;
  begin(): void;
  /** The scope may be another, or more is known of it. True when a namespace has come in or gone out. */
  look(): boolean;
  close(): void;
}

/** Where each kind is watched, and what of it is held. */
function createWhere(
  { scope, log }: Pick<WatchesOptions, 'scope' | 'log'>,
  kinds: () => readonly KindWatch[],
): Where {
  const guarded = guardScope(scope, () =>
    kinds().filter(({ kind }) => !unscoped.has(kind) && !guardedKinds.has(kind)),
  );
  const places = {
    many: createPlaces(guarded, limitOfMany),
    entries: createPlaces(guarded, limitOfFew),
    few: createPlaces(scope, limitOfFew),
  };
  const telling = tellWaiting(
    () => guarded.waiting(),
    ({ namespaces: names, kinds: missing }) =>
      log.warn(
        { namespaces: names.slice(0, 10).map((name) => name ?? 'all others'), kinds: missing },
        'namespaces that came into scope are not served yet: these kinds were not read in them',
      ),
  );
  const again = (): void => {
    for (const one of Object.values(places)) one.look();
    telling.look();
  };
  return {
    of: (kind) => {
      if (unscoped.has(kind)) return { places: () => [everywhere] };
      const of = guardedKinds.has(kind) ? guarded : scope;
      const { now } = placesOfKind(kind, places);
      return { places: now, includes: (namespace) => of.includes(namespace) };
    },
    begin: () => {
      guarded.begin();
      again();
    },
    look: () => {
      const changed = guarded.look();
      again();
      return changed;
    },
    close: () => telling.close(),
  };
}

function placesOfKind(
  kind: string,
  { many, entries, few }: Readonly<Record<'many' | 'entries' | 'few', Places>>,
): Places {
  if (manyKinds.has(kind)) return many;
  return guardedKinds.has(kind) ? entries : few;
}

interface Places {
  readonly now: () => readonly Place[];
  /** The scope may be another. */
  look(): void;
}

function createPlaces(scope: Pick<Scope, 'namespaces'>, limit: NamespaceLimit): Places {
  let crowded = false;
  let now: readonly Place[] = [everywhere];
  return {
    now: () => now,
    look: () => {
      const namespaces = scope.namespaces();
      crowded = isCrowded(namespaces, limit, crowded);
      now = placesOf(namespaces, crowded);
    },
  };
}

/** Once for all the calls of a moment: a list may bring many namespaces. */
function soon(act: () => void): () => void {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    queueMicrotask(() => {
      asked = false;
      act();
    });
  };
}

/** What the watches of all kinds have in common. */
function shared(
  { client, timings, log, onChange }: WatchesOptions,
  kind: string,
  problems: Map<string, Problem>,
) {
  return {
    client,
    log,
    onChange,
    metadataOnly: metadataKinds.has(kind),
    ...(timings === undefined ? {} : { timings }),
    onProblem: (key: string, problem: Problem | undefined): void => {
      if (problem === undefined) {
        problems.delete(`${kind} ${key}`);
        return;
      }
      problems.set(`${kind} ${key}`, problem);
      log.warn({ ...problem }, 'object not read; the last good one is kept');
    },
  };
}

type Watch = <R>(
  kind: string,
  /** Of several versions the first that the API knows. */
  path: string | readonly string[],
  decode: Decode<R>,
  into: Collection<R>,
  extra?: Pick<KindWatchOptions<R>, 'fieldSelector' | 'labelSelector'> &
    Partial<Pick<KindWatchOptions<R>, 'places'>>,
) => void;

function watchCluster(
  watch: Watch,
  { sources, rootNamespace, log }: WatchesOptions,
  isFirstConfig: () => boolean,
): void {
  const services = '/api/v1/services';
  const slices = '/apis/discovery.k8s.io/v1/endpointslices';
  watch('Namespace', '/api/v1/namespaces', decodeNamespace, sources.namespaces);
  watch('Node', '/api/v1/nodes', decodeNode, sources.nodes);
  watch('Pod', '/api/v1/pods', decodePod, sources.pods);
  watch('Service', services, decodeService, sources.services);
  watch('EndpointSlice', slices, decodeEndpointSlice, sources.endpointSlices);
  watch('ControlPlane', services, decodeControlPlane, sources.controlPlanes, {
    labelSelector: controlPlaneLabels,
  });
  watch('ControlPlaneEndpoints', slices, decodeEndpointSlice, sources.controlPlaneEndpoints, {
    places: () => [endpointsOfPlanes(sources.controlPlanes.entries())],
  });
  watch(
    'ConfigMap',
    `/api/v1/namespaces/${rootNamespace}/configmaps`,
    createMeshConfigDecoder(
      (problem) => log.warn({ ...problem }, 'not taken from the mesh configuration'),
      isFirstConfig,
    ),
    sources.meshConfig,
    { fieldSelector: `metadata.name=${meshConfigMap}` },
  );
  const deployed = { labelSelector: `${gatewayManagedLabel}=${managedBy}` };
  watch(
    'ServiceAccount',
    '/api/v1/serviceaccounts',
    decodeGatewayAccount,
    sources.gatewayAccounts,
    deployed,
  );
  watch(
    'Deployment',
    '/apis/apps/v1/deployments',
    decodeGatewayDeployment,
    sources.gatewayDeployments,
    deployed,
  );
}

function watchSecurity(watch: Watch, sources: Sources): void {
  const security = '/apis/security.istio.io/v1';
  watch(
    'PeerAuthentication',
    `${security}/peerauthentications`,
    decodePeerAuthentication,
    sources.peerAuthentications,
  );
  watch(
    'AuthorizationPolicy',
    `${security}/authorizationpolicies`,
    decodeAuthorizationPolicy,
    sources.policies,
  );
  watch(
    'RequestAuthentication',
    `${security}/requestauthentications`,
    decodeRequestAuthentication,
    sources.requestAuthentications,
  );
}

function watchTraffic(watch: Watch, sources: Sources): void {
  const networking = '/apis/networking.istio.io/v1';
  watch(
    'Telemetry',
    '/apis/telemetry.istio.io/v1/telemetries',
    decodeTelemetry,
    sources.telemetries,
  );
  watch(
    'VirtualService',
    `${networking}/virtualservices`,
    decodeVirtualService,
    sources.virtualServices,
  );
  watch(
    'DestinationRule',
    `${networking}/destinationrules`,
    decodeDestinationRule,
    sources.destinationRules,
  );
  watch(
    'RateLimitPolicy',
    '/apis/ambit.dev/v1alpha1/ratelimitpolicies',
    decodeRateLimitPolicy,
    sources.rateLimitPolicies,
  );
  watch('ServiceEntry', `${networking}/serviceentries`, decodeServiceEntry, sources.serviceEntries);
  watch(
    'WorkloadEntry',
    `${networking}/workloadentries`,
    decodeWorkloadEntry,
    sources.workloadEntries,
  );
  watch(
    'GatewayClass',
    `${gatewayApi}/v1/gatewayclasses`,
    decodeGatewayClass,
    sources.gatewayClasses,
  );
  watch('Gateway', `${gatewayApi}/v1/gateways`, decodeGateway, sources.gateways);
  watch('HTTPRoute', `${gatewayApi}/v1/httproutes`, decodeHttpRoute, sources.httpRoutes);
  watch('GRPCRoute', `${gatewayApi}/v1/grpcroutes`, decodeGrpcRoute, sources.grpcRoutes);
  watch('TCPRoute', versionsOf(tcpRouteResource), decodeTcpRoute, sources.tcpRoutes);
  watch('TLSRoute', versionsOf(tlsRouteResource), decodeTlsRoute, sources.tlsRoutes);
  watch(
    'ReferenceGrant',
    versionsOf(referenceGrantResource),
    decodeReferenceGrant,
    sources.referenceGrants,
  );
}

function versionsOf({ versions, plural }: ResourceDefinition): readonly string[] {
  return versions.map((version) => `${gatewayApi}/${version}/${plural}`);
}

const gatewayApi = '/apis/gateway.networking.k8s.io';
