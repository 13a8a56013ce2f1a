import { gatewayManagedLabel } from '@ambit/api';

import type { Collection } from '../collections/collection.ts';
import type { Sources } from '../collections/sources.ts';
import type { Log } from '../log.ts';
import type { Decode } from './cache.ts';
import { ObjectCache } from './cache.ts';
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
import { decodeEndpointSlice } from './decode/endpoint-slice.ts';
import type { Problem } from './decode/fields.ts';
import { createMeshConfigDecoder, meshConfigMap } from './decode/mesh-config.ts';
import { decodeNamespace } from './decode/namespace.ts';
import { decodeNode } from './decode/node.ts';
import { decodeGatewayAccount, managedBy } from './decode/owner.ts';
import { decodePod } from './decode/pod.ts';
import { decodeAuthorizationPolicy, decodePeerAuthentication } from './decode/policy.ts';
import { decodeService } from './decode/service.ts';
import { mayBeControlPlane } from '../rivals.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import {
  referenceGrantResource,
  tcpRouteResource,
  tlsRouteResource,
} from '../resources/gateway-api.ts';
import { kubeStatus } from './error.ts';
import type { Reflector, ReflectorOptions, ReflectorTimings } from './reflector.ts';
import { startReflector } from './reflector.ts';
import type { Scope } from './scope.ts';

export interface WatchesOptions {
  readonly client: KubeClient;
  readonly sources: Sources;
  /** Of which namespaces objects are held. */
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
  /** Kinds that have not been listed yet. */
  awaited(): readonly string[];
  /** Milliseconds since each watch showed a sign of life. */
  ages(): ReadonlyMap<string, number>;
  /** What is wrong with objects that could not be read, by kind and key. */
  problems(): readonly Problem[];
  close(): Promise<void>;
}

interface Watched {
  readonly kind: string;
  readonly cache: { readonly synced: boolean; rescope(): boolean };
  readonly start: () => Reflector;
  reflector: Reflector | undefined;
}

/** What tells the scope, and what has no namespace; the rest waits for these, lest it be read and dropped. */
const unscoped: ReadonlySet<string> = new Set(['Namespace', 'ConfigMap', 'Node', 'GatewayClass']);
/** Of these nothing but metadata is read: the status of a Node is long, and changes. */
const metadataKinds: ReadonlySet<string> = new Set(['Namespace', 'Node', 'ServiceAccount']);
const scopeKinds: ReadonlySet<string> = new Set(['Namespace', 'ConfigMap']);

export function startWatches(options: WatchesOptions): Watches {
  const { sources } = options;
  const problems = new Map<string, Problem>();
  let settle: () => void = () => undefined;
  const whenSynced = new Promise<void>((resolve) => (settle = resolve));
  const watched: Watched[] = [];
  let closed = false;
  const begin = (which: (kind: string) => boolean): void => {
    for (const one of watched) if (!closed && which(one.kind)) one.reflector ??= one.start();
  };
  const check = (): void => {
    const known = watched.every((one) => one.cache.synced || !scopeKinds.has(one.kind));
    if (known) begin((kind) => !unscoped.has(kind));
    if (watched.every((one) => one.cache.synced)) settle();
  };
  const watch: Watch = (kind, where, decode, into, selector = {}) => {
    const [path = '', ...otherPaths] = typeof where === 'string' ? [where] : where;
    const optional = path.startsWith(gatewayApi) || path.startsWith('/apis/ambit.dev/');
    const target = { kind, path, otherPaths, decode, into, optional, selector };
    watched.push(prepareWatch(target, options, problems, check));
  };
  watch('Namespace', '/api/v1/namespaces', decodeNamespace, sources.namespaces);
  watch('Node', '/api/v1/nodes', decodeNode, sources.nodes);
  watch('Pod', '/api/v1/pods', decodePod, sources.pods);
  watch('Service', '/api/v1/services', decodeService, sources.services);
  const slices = '/apis/discovery.k8s.io/v1/endpointslices';
  watch('EndpointSlice', slices, decodeEndpointSlice, sources.endpointSlices);
  watch(
    'ConfigMap',
    `/api/v1/namespaces/${options.rootNamespace}/configmaps`,
    createMeshConfigDecoder((problem) =>
      options.log.warn({ ...problem }, 'not taken from the mesh configuration'),
    ),
    sources.meshConfig,
    { fieldSelector: `metadata.name=${meshConfigMap}` },
  );
  watch(
    'ServiceAccount',
    '/api/v1/serviceaccounts',
    decodeGatewayAccount,
    sources.gatewayAccounts,
    { labelSelector: `${gatewayManagedLabel}=${managedBy}` },
  );
  watchSecurity(watch, sources);
  watchTraffic(watch, sources);
  options.scope.onChange(() => {
    for (const { kind, cache, reflector } of watched)
      if (!unscoped.has(kind) && cache.rescope()) reflector?.relist();
  });
  begin((kind) => unscoped.has(kind));
  return {
    get synced() {
      return watched.every((one) => one.cache.synced);
    },
    whenSynced,
    awaited: () => watched.filter((one) => !one.cache.synced).map((one) => one.kind),
    ages: () => new Map(watched.map((one) => [one.kind, one.reflector?.ageMs() ?? Infinity])),
    problems: () => [...problems.values()],
    close: async () => {
      closed = true;
      await Promise.all(watched.map(async (one) => one.reflector?.close()));
    },
  };
}

type Watch = <R>(
  kind: string,
  /** Of several versions the first that the API knows. */
  path: string | readonly string[],
  decode: Decode<R>,
  into: Collection<R>,
  selector?: Selector,
) => void;

type Selector = Pick<ReflectorOptions, 'fieldSelector' | 'labelSelector'>;

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

interface WatchTarget<R> {
  readonly kind: string;
  readonly path: string;
  readonly otherPaths: readonly string[];
  readonly decode: Decode<R>;
  readonly into: Collection<R>;
  /** Of an API that a cluster need not have. */
  readonly optional: boolean;
  readonly selector: Selector;
}

const gatewayApi = '/apis/gateway.networking.k8s.io';

function prepareWatch<R>(
  { kind, path, otherPaths, decode, into, optional, selector }: WatchTarget<R>,
  options: WatchesOptions,
  problems: Map<string, Problem>,
  onSync: () => void,
): Watched {
  const { log, scope } = options;
  const ofPlane = kind === 'Service' || kind === 'EndpointSlice';
  const cache = new ObjectCache<R>({
    kind,
    decode,
    ...(unscoped.has(kind)
      ? {}
      : {
          includes: (namespace, name) =>
            scope.includes(namespace) || (ofPlane && mayBeControlPlane(name)),
        }),
    onChanges: (changes) => {
      for (const { key, after } of changes) {
        if (after === undefined) into.delete(key);
        else into.set(key, after);
      }
      options.onChange();
    },
    onProblem: (key, problem) => {
      if (problem === undefined) {
        problems.delete(`${kind} ${key}`);
        return;
      }
      problems.set(`${kind} ${key}`, problem);
      log.warn({ ...problem }, 'object not read; the last good one is kept');
    },
  });
  const start = (): Reflector =>
    startReflector({
      client: options.client,
      path,
      otherPaths,
      metadataOnly: metadataKinds.has(kind),
      ...selector,
      sink: {
        list: () => {
          const taker = cache.list();
          return {
            page: (objects) => taker.page(objects),
            done: () => {
              taker.done();
              onSync();
            },
          };
        },
        upsert: (object) => cache.upsert(object),
        remove: (object) => cache.remove(object),
      },
      ...(options.timings === undefined ? {} : { timings: options.timings }),
      onFailure: (error, attempt) => {
        const fields = { err: error, kind, attempt };
        const askedAll = attempt > otherPaths.length;
        if (optional && askedAll && kubeStatus(error) === 404 && !cache.synced) {
          // The API has no such kind (yet): there are none of it, and nobody waits for them.
          log.info({ kind }, 'the API does not know this kind; it is asked again');
          cache.list().done();
          onSync();
        }
        if (optional && kubeStatus(error) === 404) log.debug(fields, 'the kind is still not there');
        else if (attempt > 2) log.warn(fields, 'watch failed; it is tried again');
        else log.debug(fields, 'watch interrupted');
      },
    });
  return { kind, cache, start, reflector: undefined };
}
