import type { Collection } from '../src/collections/collection.ts';
import type { MeshCollections } from '../src/collections/mesh.ts';
import { createMeshCollections } from '../src/collections/mesh.ts';
import type { Sources } from '../src/collections/sources.ts';
import type { Decode } from '../src/kube/cache.ts';
import * as configuration from '../src/kube/decode/configuration.ts';
import { field, text } from '../src/kube/decode/fields.ts';
import { decodeNamespace } from '../src/kube/decode/namespace.ts';
import { decodePod } from '../src/kube/decode/pod.ts';
import { decodeAuthorizationPolicy, decodePeerAuthentication } from '../src/kube/decode/policy.ts';
import { decodeService } from '../src/kube/decode/service.ts';
import { followScope } from '../src/kube/scope.ts';
import { followOwnership } from '../src/ownership.ts';
import { resources } from '../src/resources/index.ts';
import type { ClusterFacts } from '../src/translate/workload.ts';
import type { Verdict } from '../src/webhook/admission.ts';
import { judgeRequest } from '../src/webhook/admission.ts';
import { decoded } from './records.ts';
import { trustDomain } from './support.ts';

export const rootNamespace = 'istio-system';

/** What the webhook judges by, filled with objects as the API has them. */
export interface WebhookWorld {
  readonly collections: MeshCollections;
  /** Stores an object, as if it had been there for long; of a kind that is not read nothing. */
  put(object: object): void;
  judge(object: object, before?: object): Verdict;
  /** `<field>: <message>` of each warning, after nothing was found that refuses the object. */
  warnings(object: object): readonly string[];
}

export function webhookWorld(facts: Partial<ClusterFacts> = {}): WebhookWorld {
  const cluster: ClusterFacts = {
    clusterId: 'Kubernetes',
    trustDomain: trustDomain(),
    rootNamespace,
    clusterDomain: 'cluster.local',
    ...facts,
  };
  const collections = createMeshCollections(cluster);
  const { sources } = collections;
  const scope = followScope(sources, rootNamespace);
  const ownership = followOwnership(sources.namespaces, cluster);
  const kinds = kindsOf(sources);
  const judge = (object: object, before?: object): Verdict => {
    collections.flush();
    const kind = text(field(object, 'kind'));
    const resource = resources.find((one) => one.kind === kind);
    if (resource === undefined) return { errors: [], warnings: [] };
    return judgeRequest(
      {
        uid: 'u',
        operation: before === undefined ? 'CREATE' : 'UPDATE',
        group: resource.group,
        resource: resource.plural,
        namespace: text(field(object, 'metadata', 'namespace')),
        name: text(field(object, 'metadata', 'name')),
        object,
        before,
      },
      { collections, cluster, scope, ownership },
    );
  };
  return {
    collections,
    judge,
    put: (object) => {
      if (field(object, 'kind') === 'Gateway') deploy(object, sources);
      kinds.get(text(field(object, 'kind')))?.(object);
      const template = field(object, 'spec', 'template', 'metadata', 'labels');
      if (template !== undefined) kinds.get('Pod')?.(podOf(object, template));
    },
    warnings: (object) => {
      const { errors, warnings } = judge(object);
      if (errors.length > 0) throw new TypeError(JSON.stringify(errors));
      return warnings.map(({ field: path, message }) => `${path}: ${message}`);
    },
  };
}

/** What the controller makes for a waypoint. */
function deploy(gateway: object, { gatewayAccounts }: Sources): void {
  const { metadata } = gateway as { metadata: { namespace: string; name: string; uid?: string } };
  const { namespace, name, uid = '' } = metadata;
  gatewayAccounts.set(`${namespace}/${name}`, { gatewayUid: uid, createdAtMs: 1 });
}

/** A pod of a Deployment or the like. */
function podOf(owner: object, labels: unknown): object {
  const { namespace, name } = (owner as { metadata: { namespace: string; name: string } }).metadata;
  return {
    kind: 'Pod',
    metadata: { namespace, name: `${name}-0`, labels },
    status: { phase: 'Running', podIP: '10.0.0.9', podIPs: [{ ip: '10.0.0.9' }] },
  };
}

function kindsOf(sources: Sources): ReadonlyMap<string, (object: object) => void> {
  const into =
    <R>(decode: Decode<R>, collection: Collection<R>) =>
    (object: object): void => {
      const name = text(field(object, 'metadata', 'name'));
      const namespace = text(field(object, 'metadata', 'namespace'));
      collection.set(namespace === '' ? name : `${namespace}/${name}`, decoded(decode, object));
    };
  const of = configuration;
  return new Map([
    ['Namespace', into(decodeNamespace, sources.namespaces)],
    ['Pod', into(decodePod, sources.pods)],
    ['Service', into(decodeService, sources.services)],
    ['PeerAuthentication', into(decodePeerAuthentication, sources.peerAuthentications)],
    ['AuthorizationPolicy', into(decodeAuthorizationPolicy, sources.policies)],
    ['RequestAuthentication', into(of.decodeRequestAuthentication, sources.requestAuthentications)],
    ['Telemetry', into(of.decodeTelemetry, sources.telemetries)],
    ['VirtualService', into(of.decodeVirtualService, sources.virtualServices)],
    ['DestinationRule', into(of.decodeDestinationRule, sources.destinationRules)],
    ['RateLimitPolicy', into(of.decodeRateLimitPolicy, sources.rateLimitPolicies)],
    ['ServiceEntry', into(of.decodeServiceEntry, sources.serviceEntries)],
    ['WorkloadEntry', into(of.decodeWorkloadEntry, sources.workloadEntries)],
    ['GatewayClass', into(of.decodeGatewayClass, sources.gatewayClasses)],
    ['Gateway', into(of.decodeGateway, sources.gateways)],
    ['HTTPRoute', into(of.decodeHttpRoute, sources.httpRoutes)],
    ['GRPCRoute', into(of.decodeGrpcRoute, sources.grpcRoutes)],
    ['TCPRoute', into(of.decodeTcpRoute, sources.tcpRoutes)],
    ['TLSRoute', into(of.decodeTlsRoute, sources.tlsRoutes)],
    ['ReferenceGrant', into(of.decodeReferenceGrant, sources.referenceGrants)],
  ]);
}
