import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import {
  amount,
  duration,
  flag,
  many,
  part,
  stringMatch,
  text,
  textMap,
  texts,
  whole,
} from './shape.ts';

const portSelector = part({ number: whole });
const destination = part({ host: text, subset: text, port: Type.Optional(portSelector) });
const headerOperations = part({ set: textMap, add: textMap, remove: texts });
const headers = part({
  request: Type.Optional(headerOperations),
  response: Type.Optional(headerOperations),
});
const percent = part({ value: amount });
const matches = Type.Optional(Type.Record(Type.String(), stringMatch));

const httpMatch = part({
  name: text,
  uri: Type.Optional(stringMatch),
  scheme: Type.Optional(stringMatch),
  method: Type.Optional(stringMatch),
  authority: Type.Optional(stringMatch),
  headers: matches,
  port: whole,
  sourceLabels: textMap,
  gateways: texts,
  queryParams: matches,
  ignoreUriCase: flag,
  withoutHeaders: matches,
  sourceNamespace: text,
  statPrefix: text,
});

const httpRoute = part({
  name: text,
  match: many(httpMatch),
  route: many(
    part({
      destination: Type.Optional(destination),
      weight: whole,
      headers: Type.Optional(headers),
    }),
  ),
  redirect: Type.Optional(
    part({
      uri: text,
      authority: text,
      port: whole,
      derivePort: Type.Optional(Type.Enum(['FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT'])),
      scheme: text,
      redirectCode: whole,
    }),
  ),
  directResponse: Type.Optional(
    part({ status: whole, body: Type.Optional(part({ string: text, bytes: text })) }),
  ),
  delegate: Type.Optional(part({ name: text, namespace: text })),
  rewrite: Type.Optional(
    part({
      uri: text,
      authority: text,
      uriRegexRewrite: Type.Optional(part({ match: text, rewrite: text })),
    }),
  ),
  timeout: duration,
  retries: Type.Optional(
    part({
      attempts: whole,
      perTryTimeout: duration,
      retryOn: text,
      retryRemoteLocalities: flag,
      retryIgnorePreviousHosts: flag,
      backoff: duration,
    }),
  ),
  fault: Type.Optional(
    part({
      delay: Type.Optional(
        part({
          percent: whole,
          fixedDelay: duration,
          exponentialDelay: duration,
          percentage: Type.Optional(percent),
        }),
      ),
      abort: Type.Optional(
        part({
          httpStatus: whole,
          grpcStatus: text,
          http2Error: text,
          percentage: Type.Optional(percent),
        }),
      ),
    }),
  ),
  mirror: Type.Optional(destination),
  mirrorPercentage: Type.Optional(percent),
  mirrorPercent: whole,
  mirror_percent: whole,
  mirrors: many(
    part({ destination: Type.Optional(destination), percentage: Type.Optional(percent) }),
  ),
  corsPolicy: Type.Optional(
    part({
      allowOrigin: texts,
      allowOrigins: many(stringMatch),
      allowMethods: texts,
      allowHeaders: texts,
      exposeHeaders: texts,
      maxAge: duration,
      allowCredentials: flag,
      unmatchedPreflights: Type.Optional(Type.Enum(['UNSPECIFIED', 'FORWARD', 'IGNORE'])),
    }),
  ),
  headers: Type.Optional(headers),
});

const l4Match = {
  destinationSubnets: texts,
  port: whole,
  sourceLabels: textMap,
  gateways: texts,
  sourceNamespace: text,
  sourceSubnet: text,
};
const l4Route = many(part({ destination: Type.Optional(destination), weight: whole }));

/** `spec` of networking.istio.io VirtualService, as its public API reference has it. */
export const virtualServiceSpec = Type.Object(
  {
    hosts: texts,
    gateways: texts,
    http: many(httpRoute),
    tls: many(part({ match: many(part({ sniHosts: texts, ...l4Match })), route: l4Route })),
    tcp: many(part({ match: many(part(l4Match)), route: l4Route })),
    exportTo: texts,
  },
  { additionalProperties: false, description: 'What becomes of requests to hosts.' },
);
export type VirtualServiceSpec = Static<typeof virtualServiceSpec>;
export type HttpRouteSpec = Static<typeof httpRoute>;
export type HttpMatchSpec = Static<typeof httpMatch>;
export type DestinationSpec = Static<typeof destination>;
export type HeadersSpec = Static<typeof headers>;
export type StringMatchSpec = Static<typeof stringMatch>;

export const virtualServiceResource: ResourceDefinition = {
  group: 'networking.istio.io',
  kind: 'VirtualService',
  plural: 'virtualservices',
  singular: 'virtualservice',
  shortNames: ['vs'],
  categories: ['istio-io', 'networking-istio-io'],
  versions: ['v1', 'v1beta1', 'v1alpha3'],
  spec: virtualServiceSpec,
  notes: new Map([
    [
      'hosts[]',
      'Services, hosts of a ServiceEntry, or a wildcard such as `*.shop.svc.cluster.local` for those that nothing else names',
    ],
    [
      'http[].match[].authority.regex',
      'authorities are in lower case when they are compared, so that capitals never match',
    ],
  ]),
  columns: [
    {
      name: 'Gateways',
      type: 'string',
      jsonPath: '.spec.gateways',
      description: 'Where it holds.',
    },
    { name: 'Hosts', type: 'string', jsonPath: '.spec.hosts', description: 'For whom it holds.' },
  ],
  refused: new Map([
    ['http[].fault.delay.exponentialDelay', 'Istio has it hidden and unused; use fixedDelay'],
    ['http[].fault.abort.http2Error', 'Istio has it unused; use httpStatus or grpcStatus'],
    ['http[].match[].statPrefix', 'names Envoy statistics, which there are none of; remove it'],
    ['http[].corsPolicy.allowOrigin', 'is deprecated; use allowOrigins'],
    [
      'tcp[].match[].sourceSubnet',
      'is deprecated and unused in Istio; use sourceLabels or sourceNamespace',
    ],
    [
      'tls[].match[].sourceSubnet',
      'is deprecated and unused in Istio; use sourceLabels or sourceNamespace',
    ],
  ]),
};
