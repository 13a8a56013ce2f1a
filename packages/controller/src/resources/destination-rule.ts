import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { workloadSelector } from './selector.ts';
import {
  amount,
  duration,
  durationOrNone,
  flag,
  many,
  part,
  text,
  textMap,
  texts,
  whole,
} from './shape.ts';

const loadBalancer = part({
  simple: Type.Optional(
    Type.Enum([
      'UNSPECIFIED',
      'LEAST_CONN',
      'RANDOM',
      'PASSTHROUGH',
      'ROUND_ROBIN',
      'LEAST_REQUEST',
    ]),
  ),
  consistentHash: Type.Optional(
    part({
      httpHeaderName: text,
      httpCookie: Type.Optional(
        part({
          name: text,
          path: text,
          ttl: durationOrNone,
          attributes: many(part({ name: text, value: text })),
        }),
      ),
      useSourceIp: flag,
      httpQueryParameterName: text,
      ringHash: Type.Optional(part({ minimumRingSize: whole })),
      maglev: Type.Optional(part({ tableSize: whole })),
      minimumRingSize: whole,
    }),
  ),
  localityLbSetting: Type.Optional(
    part({
      distribute: many(
        part({ from: text, to: Type.Optional(Type.Record(Type.String(), Type.Integer())) }),
      ),
      failover: many(part({ from: text, to: text })),
      failoverPriority: texts,
      enabled: flag,
    }),
  ),
  warmupDurationSecs: duration,
  warmup: Type.Optional(part({ duration, minimumPercent: amount, aggression: amount })),
});

const connectionPool = part({
  tcp: Type.Optional(
    part({
      maxConnections: whole,
      connectTimeout: duration,
      tcpKeepalive: Type.Optional(part({ probes: whole, time: duration, interval: duration })),
      maxConnectionDuration: duration,
      idleTimeout: durationOrNone,
    }),
  ),
  http: Type.Optional(
    part({
      http1MaxPendingRequests: whole,
      http2MaxRequests: whole,
      maxRequestsPerConnection: whole,
      maxRetries: whole,
      idleTimeout: duration,
      h2UpgradePolicy: Type.Optional(Type.Enum(['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE'])),
      useClientProtocol: flag,
      maxConcurrentStreams: whole,
    }),
  ),
});

const outlierDetection = part({
  consecutiveErrors: whole,
  splitExternalLocalOriginErrors: flag,
  consecutiveLocalOriginFailures: whole,
  consecutiveGatewayErrors: whole,
  consecutive5xxErrors: whole,
  interval: duration,
  baseEjectionTime: duration,
  maxEjectionPercent: whole,
  minHealthPercent: whole,
});

const tls = part({
  mode: Type.Optional(Type.Enum(['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'])),
  clientCertificate: text,
  privateKey: text,
  caCertificates: text,
  credentialName: text,
  subjectAltNames: texts,
  sni: text,
  insecureSkipVerify: flag,
  caCrl: text,
});

const settings = {
  loadBalancer: Type.Optional(loadBalancer),
  connectionPool: Type.Optional(connectionPool),
  outlierDetection: Type.Optional(outlierDetection),
  tls: Type.Optional(tls),
};
const trafficPolicy = part({
  ...settings,
  portLevelSettings: many(part({ port: Type.Optional(part({ number: whole })), ...settings })),
  tunnel: Type.Optional(part({ protocol: text, targetHost: text, targetPort: whole })),
  proxyProtocol: Type.Optional(part({ version: Type.Optional(Type.Enum(['V1', 'V2'])) })),
  retryBudget: Type.Optional(part({ percent: amount, minRetryConcurrency: whole })),
});

/** `spec` of networking.istio.io DestinationRule, as its public API reference has it. */
export const destinationRuleSpec = Type.Object(
  {
    host: text,
    trafficPolicy: Type.Optional(trafficPolicy),
    subsets: many(
      part({ name: text, labels: textMap, trafficPolicy: Type.Optional(trafficPolicy) }),
    ),
    exportTo: texts,
    workloadSelector: Type.Optional(workloadSelector),
  },
  { additionalProperties: false, description: 'How the endpoints of a host are called.' },
);
export type DestinationRuleSpec = Static<typeof destinationRuleSpec>;
export type TrafficPolicySpec = Static<typeof trafficPolicy>;
export type SettingsSpec = Pick<
  TrafficPolicySpec,
  'loadBalancer' | 'connectionPool' | 'outlierDetection' | 'tls'
>;

const refusedSettings: readonly (readonly [string, string])[] = [
  ['outlierDetection.consecutiveErrors', 'is deprecated; use consecutive5xxErrors'],
];

export const destinationRuleResource: ResourceDefinition = {
  group: 'networking.istio.io',
  kind: 'DestinationRule',
  plural: 'destinationrules',
  singular: 'destinationrule',
  shortNames: ['dr'],
  categories: ['istio-io', 'networking-istio-io'],
  versions: ['v1', 'v1beta1', 'v1alpha3'],
  spec: destinationRuleSpec,
  columns: [
    { name: 'Host', type: 'string', jsonPath: '.spec.host', description: 'For whom it holds.' },
  ],
  notes: new Map([
    [
      'host',
      'a Service, a host of a ServiceEntry, or a wildcard such as `*.shop.svc.cluster.local` for those that nothing else names',
    ],
    [
      'exportTo[]',
      'judged by the namespace of the waypoint of the service, or of the service where it has none (docs/balancing.md)',
    ],
  ]),
  refused: new Map([
    ['workloadSelector', 'chooses sidecars, which there are none of; remove it'],
    ...[
      'trafficPolicy',
      'trafficPolicy.portLevelSettings[]',
      'subsets[].trafficPolicy',
      'subsets[].trafficPolicy.portLevelSettings[]',
    ].flatMap((prefix) =>
      refusedSettings.map(([path, why]) => [`${prefix}.${path}`, why] as const),
    ),
    ...['trafficPolicy', 'subsets[].trafficPolicy'].flatMap((prefix) => [
      [`${prefix}.tunnel`, 'tunnels through a forward proxy are not there yet; remove it'] as const,
    ]),
  ]),
};
