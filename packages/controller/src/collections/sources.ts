import type { MeshSettings, ReportedProblem } from '@ambit/api';
import { bypassWaypointAnnotation } from '@ambit/api';

import type {
  DestinationRuleRecord,
  GatewayClassRecord,
  GatewayRecord,
  GrpcRouteRecord,
  HttpRouteRecord,
  ReferenceGrantRecord,
  RateLimitPolicyRecord,
  RequestAuthenticationRecord,
  ServiceEntryRecord,
  TcpRouteRecord,
  TelemetryRecord,
  TlsRouteRecord,
  VirtualServiceRecord,
  WorkloadEntryRecord,
} from '../kube/decode/configuration.ts';
import type { ControlPlaneRecord } from '../kube/decode/control-plane.ts';
import type { EndpointSliceRecord } from '../kube/decode/endpoint-slice.ts';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import type { NodeRecord } from '../kube/decode/node.ts';
import type { GatewayAccountRecord, GatewayDeploymentRecord } from '../kube/decode/owner.ts';
import type { ParametersRecord } from '../kube/decode/parameters.ts';
import type { PodRecord } from '../kube/decode/pod.ts';
import type { PeerAuthenticationRecord, PolicyRecord } from '../kube/decode/policy.ts';
import type { SecretRecord } from '../kube/decode/secret.ts';
import type { ServiceRecord } from '../kube/decode/service.ts';
import type { MeshConfig } from '../translate/mesh-config.ts';
import { delegatesOf } from '../translate/virtual-service.ts';
import { hasEnded } from '../translate/workload.ts';
import { Collection } from './collection.ts';

/** The records of every kind as they come from the API, by `namespace/name`. */
export interface Sources {
  readonly pods: Collection<PodRecord>;
  readonly namespaces: Collection<NamespaceRecord>;
  readonly services: Collection<ServiceRecord>;
  readonly endpointSlices: Collection<EndpointSliceRecord>;
  /** Services that may be a control plane's, in every namespace, and the endpoints of those. */
  readonly controlPlanes: Collection<ControlPlaneRecord>;
  readonly controlPlaneEndpoints: Collection<EndpointSliceRecord>;
  readonly nodes: Collection<NodeRecord>;
  readonly peerAuthentications: Collection<PeerAuthenticationRecord>;
  readonly policies: Collection<PolicyRecord>;
  readonly rateLimitPolicies: Collection<RateLimitPolicyRecord>;
  readonly requestAuthentications: Collection<RequestAuthenticationRecord>;
  readonly gateways: Collection<GatewayRecord>;
  /** ServiceAccounts that are deployed for Gateways, and no others. */
  readonly gatewayAccounts: Collection<GatewayAccountRecord>;
  /** Deployments that are made for Gateways, and no others. */
  readonly gatewayDeployments: Collection<GatewayDeploymentRecord>;
  readonly gatewayClasses: Collection<GatewayClassRecord>;
  readonly virtualServices: Collection<VirtualServiceRecord>;
  readonly destinationRules: Collection<DestinationRuleRecord>;
  readonly serviceEntries: Collection<ServiceEntryRecord>;
  readonly workloadEntries: Collection<WorkloadEntryRecord>;
  readonly httpRoutes: Collection<HttpRouteRecord>;
  readonly grpcRoutes: Collection<GrpcRouteRecord>;
  readonly tcpRoutes: Collection<TcpRouteRecord>;
  readonly tlsRoutes: Collection<TlsRouteRecord>;
  readonly referenceGrants: Collection<ReferenceGrantRecord>;
  readonly telemetries: Collection<TelemetryRecord>;
  /** Those that rules name, and no others. */
  readonly secrets: Collection<SecretRecord>;
  /** ConfigMaps that Gateways name in `infrastructure.parametersRef`, and no others. */
  readonly parameters: Collection<ParametersRecord>;
  /** One entry at most: the ConfigMap of the root namespace. */
  readonly meshConfig: Collection<MeshConfig>;
  /** What the proxies that are connected report, one entry for each connection. */
  readonly reports: Collection<ProxyReport>;
  /** One entry, `default`. */
  readonly settings: Collection<MeshBasics>;
}

export interface ProxyReport {
  /** `<program> <namespace>/<pod>`, as its token says. */
  readonly proxy: string;
  readonly problems: readonly ReportedProblem[];
}

/** What holds for the mesh without anybody's configuration. */
export type MeshBasics = Omit<
  MeshSettings,
  'providers' | 'defaultProviders' | 'traceSamplingPercent'
>;

export function createSources(): Sources {
  return {
    pods: new Collection<PodRecord>('pods', {
      account: (pod) => (hasEnded(pod) ? [] : [accountOnNode(pod)]),
      identity: (pod) => (hasEnded(pod) ? [] : [`${pod.meta.namespace}/${pod.serviceAccount}`]),
      address: (pod) => (hasEnded(pod) ? [] : pod.addresses),
      namespace: ({ meta }) => [meta.namespace],
      bypassing: ({ meta }) =>
        meta.annotations.get(bypassWaypointAnnotation) === 'allow' ? [meta.namespace] : [],
    }),
    namespaces: new Collection('namespaces'),
    services: new Collection<ServiceRecord>('services', {
      address: ({ clusterIps }) => clusterIps,
    }),
    endpointSlices: new Collection('endpoint-slices'),
    controlPlanes: new Collection('control-planes'),
    controlPlaneEndpoints: new Collection('control-plane-endpoints'),
    nodes: new Collection('nodes'),
    peerAuthentications: new Collection('peer-authentications'),
    policies: new Collection('policies'),
    rateLimitPolicies: new Collection('rate-limit-policies'),
    requestAuthentications: new Collection('request-authentications'),
    gateways: new Collection('gateways'),
    gatewayAccounts: new Collection('gateway-accounts'),
    gatewayDeployments: new Collection('gateway-deployments'),
    gatewayClasses: new Collection('gateway-classes'),
    virtualServices: new Collection<VirtualServiceRecord>('virtual-services', {
      delegate: delegatesOf,
    }),
    destinationRules: new Collection('destination-rules'),
    serviceEntries: new Collection('service-entries'),
    workloadEntries: new Collection<WorkloadEntryRecord>('workload-entries'),
    httpRoutes: new Collection('http-routes'),
    grpcRoutes: new Collection('grpc-routes'),
    tcpRoutes: new Collection('tcp-routes'),
    tlsRoutes: new Collection('tls-routes'),
    referenceGrants: new Collection('reference-grants'),
    telemetries: new Collection('telemetries'),
    secrets: new Collection('secrets'),
    parameters: new Collection('parameters'),
    meshConfig: new Collection('mesh-config'),
    reports: new Collection<ProxyReport>('reports', {
      resource: ({ problems }) => [...new Set(problems.map((one) => `${one.type} ${one.name}`))],
    }),
    settings: new Collection('settings'),
  };
}

/** Key of the `account` index of pods: which service accounts run on which node. */
export function accountOnNode(pod: {
  readonly meta: { readonly namespace: string };
  readonly serviceAccount: string;
  readonly node: string;
}): string {
  return `${pod.node}/${pod.meta.namespace}/${pod.serviceAccount}`;
}
