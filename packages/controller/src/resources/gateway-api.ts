import type { Static, TProperties, TSchema } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';

/** The group of every kind of the Gateway API. */
export const gatewayApiGroup = 'gateway.networking.k8s.io';

const optional = Type.Optional;

/** Unknown fields are told, because a misspelt one would silently route differently. */
function closed<P extends TProperties>(properties: P, description?: string) {
  return Type.Object(properties, {
    additionalProperties: false,
    ...(description === undefined ? {} : { description }),
  });
}

function listOf<T extends TSchema>(item: T, maxItems: number, description?: string) {
  return Type.Array(item, { maxItems, ...(description === undefined ? {} : { description }) });
}

const group = Type.String({ maxLength: 253 });
const kind = Type.String({ minLength: 1, maxLength: 63 });
const objectName = Type.String({ minLength: 1, maxLength: 253 });
const namespace = Type.String({ minLength: 1, maxLength: 63 });
const sectionName = Type.String({ minLength: 1, maxLength: 253 });
const portNumber = Type.Integer({ minimum: 1, maximum: 65_535 });
const hostname = Type.String({
  minLength: 1,
  maxLength: 253,
  pattern: String.raw`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`,
});
const preciseHostname = Type.String({
  minLength: 1,
  maxLength: 253,
  pattern: String.raw`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`,
});
/** GEP-2257: a Go duration of whole numbers, without a sign. */
const duration = Type.String({
  pattern: '^([0-9]{1,5}(h|m|s|ms)){1,4}$',
  description: 'A length of time such as 250ms, 10s or 1h30m.',
});
const headerName = Type.String({
  minLength: 1,
  maxLength: 256,
  pattern: String.raw`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`,
});
/** No line ends: what is written here is sent as one header. */
const headerValue = Type.String({ minLength: 1, maxLength: 4096, pattern: '^[^\\r\\n\\0]*$' });

const parentRef = closed(
  {
    group: optional(group),
    kind: optional(kind),
    namespace: optional(namespace),
    name: objectName,
    sectionName: optional(sectionName),
    port: optional(portNumber),
  },
  'What the route attaches to; for a mesh a Service, with group "".',
);

/** What every route has. */
const common = {
  parentRefs: optional(listOf(parentRef, 32, 'What the route attaches to.')),
  useDefaultGateways: optional(Type.Enum(['All', 'None'])),
};

const backendObject = {
  group: optional(group),
  kind: optional(kind),
  name: objectName,
  namespace: optional(namespace),
  port: optional(portNumber),
};
const backendObjectRef = closed(backendObject);
const weight = Type.Integer({ minimum: 0, maximum: 1_000_000 });
const backendRef = closed({ ...backendObject, weight: optional(weight) });

const sessionPersistence = closed(
  {
    sessionName: optional(Type.String({ maxLength: 128 })),
    absoluteTimeout: optional(duration),
    idleTimeout: optional(duration),
    type: optional(Type.Enum(['Cookie', 'Header'])),
    cookieConfig: optional(closed({ lifetimeType: optional(Type.Enum(['Permanent', 'Session'])) })),
  },
  'Known, and not done yet.',
);

const header = closed({ name: headerName, value: headerValue });
const headerModifier = closed(
  {
    set: optional(listOf(header, 16, 'Headers that get this value only.')),
    add: optional(listOf(header, 16, 'Headers that get this value too.')),
    remove: optional(listOf(Type.String({ maxLength: 256 }), 16, 'Headers that are left out.')),
  },
  'Changes of headers.',
);

const fraction = closed({
  numerator: Type.Integer({ minimum: 0 }),
  denominator: optional(Type.Integer({ minimum: 1 })),
});
const requestMirror = closed(
  {
    backendRef: backendObjectRef,
    percent: optional(Type.Integer({ minimum: 0, maximum: 100 })),
    fraction: optional(fraction),
  },
  'Copies of requests, whose answers are thrown away.',
);

/** Printable ASCII only: it becomes a part of a request line or of a Location header. */
const replacement = Type.String({ maxLength: 1024, pattern: String.raw`^[\x21-\x7e]*$` });
const pathModifier = closed({
  type: Type.Enum(['ReplaceFullPath', 'ReplacePrefixMatch']),
  replaceFullPath: optional(replacement),
  replacePrefixMatch: optional(replacement),
});
const requestRedirect = closed({
  scheme: optional(Type.Enum(['http', 'https'])),
  hostname: optional(preciseHostname),
  path: optional(pathModifier),
  port: optional(portNumber),
  statusCode: optional(Type.Integer({ enum: [301, 302, 303, 307, 308] })),
});
const urlRewrite = closed({ hostname: optional(preciseHostname), path: optional(pathModifier) });

const methods = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
] as const;
const cors = closed({
  allowOrigins: optional(
    listOf(Type.String({ minLength: 1, maxLength: 253 }), 64, 'Origins, or * for all of them.'),
  ),
  allowCredentials: optional(Type.Boolean()),
  allowMethods: optional(listOf(Type.Enum([...methods, '*']), 9)),
  allowHeaders: optional(listOf(headerName, 64)),
  exposeHeaders: optional(listOf(headerName, 64)),
  maxAge: optional(Type.Integer({ minimum: 1, description: 'Seconds; 5 when absent.' })),
});

const allowedHeaders = optional(listOf(Type.String(), 64));
const externalAuth = closed(
  {
    protocol: Type.Enum(['HTTP', 'GRPC']),
    backendRef: backendObjectRef,
    grpc: optional(closed({ allowedHeaders })),
    http: optional(
      closed({
        path: optional(Type.String({ maxLength: 1024 })),
        allowedHeaders,
        allowedResponseHeaders: allowedHeaders,
      }),
    ),
    forwardBody: optional(closed({ maxSize: optional(Type.Integer({ minimum: 0 })) })),
  },
  'Known, and not done yet.',
);
const extensionRef = closed({ group, kind, name: objectName }, 'There are no extensions.');

const grpcFilter = closed({
  type: Type.Enum([
    'RequestHeaderModifier',
    'ResponseHeaderModifier',
    'RequestMirror',
    'ExtensionRef',
  ]),
  requestHeaderModifier: optional(headerModifier),
  responseHeaderModifier: optional(headerModifier),
  requestMirror: optional(requestMirror),
  extensionRef: optional(extensionRef),
});
const httpFilter = closed({
  type: Type.Enum([
    'RequestHeaderModifier',
    'ResponseHeaderModifier',
    'RequestMirror',
    'RequestRedirect',
    'URLRewrite',
    'CORS',
    'ExternalAuth',
    'ExtensionRef',
  ]),
  requestHeaderModifier: optional(headerModifier),
  responseHeaderModifier: optional(headerModifier),
  requestMirror: optional(requestMirror),
  requestRedirect: optional(requestRedirect),
  urlRewrite: optional(urlRewrite),
  cors: optional(cors),
  externalAuth: optional(externalAuth),
  extensionRef: optional(extensionRef),
});

const matchType = optional(
  Type.Enum(['Exact', 'RegularExpression'], { description: 'Exact when absent.' }),
);
const headerMatch = closed({ type: matchType, name: headerName, value: headerValue });
const httpMatch = closed({
  path: optional(
    closed({
      type: optional(
        Type.Enum(['Exact', 'PathPrefix', 'RegularExpression'], {
          description: 'PathPrefix when absent.',
        }),
      ),
      value: optional(Type.String({ maxLength: 1024, description: '/ when absent.' })),
    }),
  ),
  headers: optional(listOf(headerMatch, 16)),
  queryParams: optional(
    listOf(
      closed({
        type: matchType,
        name: headerName,
        value: Type.String({ minLength: 1, maxLength: 1024 }),
      }),
      16,
    ),
  ),
  method: optional(Type.Enum([...methods])),
});

const timeouts = closed({
  request: optional(duration),
  backendRequest: optional(duration),
});
const retry = closed({
  codes: optional(Type.Array(Type.Integer({ minimum: 400, maximum: 599 }))),
  attempts: optional(Type.Integer({ minimum: 0 })),
  backoff: optional(duration),
});

const httpRule = closed({
  name: optional(sectionName),
  matches: optional(listOf(httpMatch, 64, 'Any of them; every request when absent.')),
  filters: optional(listOf(httpFilter, 16)),
  backendRefs: optional(
    listOf(
      closed({
        ...backendObject,
        weight: optional(weight),
        filters: optional(listOf(httpFilter, 16)),
      }),
      16,
    ),
  ),
  timeouts: optional(timeouts),
  retry: optional(retry),
  sessionPersistence: optional(sessionPersistence),
});

/** `spec` of gateway.networking.k8s.io HTTPRoute, as its public API reference has it. */
export const httpRouteSpec = closed(
  {
    ...common,
    hostnames: optional(listOf(hostname, 16, 'Hosts; they say nothing for a Service.')),
    rules: optional(listOf(httpRule, 16)),
  },
  'Where HTTP requests go.',
);
export type HttpRouteSpec = Static<typeof httpRouteSpec>;
export type HttpRuleSpec = Static<typeof httpRule>;
export type HttpMatchSpec = Static<typeof httpMatch>;
export type HttpFilterSpec = Static<typeof httpFilter>;
export type HeaderMatchSpec = Static<typeof headerMatch>;
export type HeaderModifierSpec = Static<typeof headerModifier>;
export type RequestMirrorSpec = Static<typeof requestMirror>;
export type RequestRedirectSpec = Static<typeof requestRedirect>;
export type UrlRewriteSpec = Static<typeof urlRewrite>;
export type PathModifierSpec = Static<typeof pathModifier>;
export type CorsSpec = Static<typeof cors>;
export type TimeoutsSpec = Static<typeof timeouts>;
export type RetrySpec = Static<typeof retry>;
export type ParentRefSpec = Static<typeof parentRef>;
export type BackendObjectRefSpec = Static<typeof backendObjectRef>;
export type BackendRefSpec = Static<typeof backendRef>;

const grpcMatch = closed({
  method: optional(
    closed({
      type: matchType,
      service: optional(Type.String({ maxLength: 1024 })),
      method: optional(Type.String({ maxLength: 1024 })),
    }),
  ),
  headers: optional(listOf(headerMatch, 16)),
});
const grpcRule = closed({
  name: optional(sectionName),
  matches: optional(listOf(grpcMatch, 64, 'Any of them; every request when absent.')),
  filters: optional(listOf(grpcFilter, 16)),
  backendRefs: optional(
    listOf(
      closed({
        ...backendObject,
        weight: optional(weight),
        filters: optional(listOf(grpcFilter, 16)),
      }),
      16,
    ),
  ),
  sessionPersistence: optional(sessionPersistence),
});

/** `spec` of gateway.networking.k8s.io GRPCRoute, as its public API reference has it. */
export const grpcRouteSpec = closed(
  {
    ...common,
    hostnames: optional(listOf(hostname, 16, 'Hosts; they say nothing for a Service.')),
    rules: optional(listOf(grpcRule, 16)),
  },
  'Where gRPC requests go.',
);
export type GrpcRouteSpec = Static<typeof grpcRouteSpec>;
export type GrpcRuleSpec = Static<typeof grpcRule>;
export type GrpcMatchSpec = Static<typeof grpcMatch>;

const connectionRule = closed({
  name: optional(sectionName),
  backendRefs: optional(listOf(backendRef, 16)),
});
export type ConnectionRuleSpec = Static<typeof connectionRule>;

/** `spec` of gateway.networking.k8s.io TCPRoute, as its public API reference has it. */
export const tcpRouteSpec = closed(
  { ...common, rules: listOf(connectionRule, 16) },
  'Where TCP connections go.',
);
export type TcpRouteSpec = Static<typeof tcpRouteSpec>;

/** `spec` of gateway.networking.k8s.io TLSRoute, as its public API reference has it. */
export const tlsRouteSpec = closed(
  {
    ...common,
    hostnames: optional(listOf(hostname, 1024, 'Names that the client asks for (SNI).')),
    rules: listOf(connectionRule, 16),
  },
  'Where TLS connections go.',
);
export type TlsRouteSpec = Static<typeof tlsRouteSpec>;

/** `spec` of gateway.networking.k8s.io ReferenceGrant, as its public API reference has it. */
export const referenceGrantSpec = closed(
  {
    from: listOf(closed({ group, kind, namespace }), 16, 'Who may refer.'),
    to: listOf(
      closed({ group, kind, name: optional(objectName) }),
      16,
      'To what of this namespace; every one of the kind when there is no name.',
    ),
  },
  'References from other namespaces that are allowed.',
);
export type ReferenceGrantSpec = Static<typeof referenceGrantSpec>;

const shared = {
  group: gatewayApiGroup,
  shortNames: [],
  categories: ['gateway-api'],
  columns: [],
} as const;
const hostnamesColumn = {
  name: 'Hostnames',
  type: 'string',
  jsonPath: '.spec.hostnames',
  description: 'Hosts that are asked for.',
} as const;

export const parentRefSchema: TSchema = parentRef;

/** The parts of each kind of route, for reading one of which a part cannot be read. */
export const routeSchemas: Readonly<
  Record<
    'HTTPRoute' | 'GRPCRoute' | 'TCPRoute' | 'TLSRoute',
    {
      readonly rule: TSchema;
      readonly match?: TSchema;
      readonly fields: Readonly<Record<string, TSchema>>;
    }
  >
> = {
  HTTPRoute: { rule: httpRule, match: httpMatch, fields: httpRouteSpec.properties },
  GRPCRoute: { rule: grpcRule, match: grpcMatch, fields: grpcRouteSpec.properties },
  TCPRoute: { rule: connectionRule, fields: tcpRouteSpec.properties },
  TLSRoute: { rule: connectionRule, fields: tlsRouteSpec.properties },
};

const notSupported = 'is not supported; remove it';
const notForOneBackend =
  'is not supported for a single backend; move it to the filters of the rule';

const refusedInRoutes: readonly (readonly [string, string])[] = [
  ['useDefaultGateways', 'attaches to Gateways, which take no routes yet'],
];
const refusedInRules: readonly (readonly [string, string])[] = [
  ...refusedInRoutes,
  ['rules[].sessionPersistence', notSupported],
  ['rules[].filters[].extensionRef', notSupported],
  ['rules[].backendRefs[].filters[].extensionRef', notSupported],
  ['rules[].backendRefs[].filters[].requestMirror', notForOneBackend],
];
const refusedInHttpRules: readonly (readonly [string, string])[] = [
  ['rules[].filters[].externalAuth', notSupported],
  ['rules[].backendRefs[].filters[].externalAuth', notSupported],
  ...['requestRedirect', 'urlRewrite', 'cors'].map(
    (name) => [`rules[].backendRefs[].filters[].${name}`, notForOneBackend] as const,
  ),
];

export const httpRouteResource: ResourceDefinition = {
  ...shared,
  kind: 'HTTPRoute',
  plural: 'httproutes',
  singular: 'httproute',
  versions: ['v1', 'v1beta1'],
  spec: httpRouteSpec,
  refusedInPart: new Map([...refusedInRules, ...refusedInHttpRules]),
  columns: [hostnamesColumn],
};

export const grpcRouteResource: ResourceDefinition = {
  ...shared,
  kind: 'GRPCRoute',
  plural: 'grpcroutes',
  singular: 'grpcroute',
  versions: ['v1'],
  spec: grpcRouteSpec,
  refusedInPart: new Map(refusedInRules),
  columns: [hostnamesColumn],
};

export const tcpRouteResource: ResourceDefinition = {
  ...shared,
  kind: 'TCPRoute',
  plural: 'tcproutes',
  singular: 'tcproute',
  versions: ['v1', 'v1alpha2'],
  spec: tcpRouteSpec,
  refusedInPart: new Map(refusedInRoutes),
};

export const tlsRouteResource: ResourceDefinition = {
  ...shared,
  kind: 'TLSRoute',
  plural: 'tlsroutes',
  singular: 'tlsroute',
  versions: ['v1', 'v1alpha3', 'v1alpha2'],
  spec: tlsRouteSpec,
  refusedInPart: new Map(refusedInRoutes),
};

export const referenceGrantResource: ResourceDefinition = {
  ...shared,
  kind: 'ReferenceGrant',
  plural: 'referencegrants',
  singular: 'referencegrant',
  shortNames: ['refgrant'],
  versions: ['v1', 'v1beta1'],
  spec: referenceGrantSpec,
};
