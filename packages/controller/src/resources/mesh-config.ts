import type { Static } from 'typebox';
import { Type } from 'typebox';

import { amount, duration, flag, many, part, text, textMap, texts } from './shape.ts';

/**
 * The parts of Istio's MeshConfig that are read, as its public API reference has them. Each part is checked on its
 * own, so that one that is wrong takes no other with it.
 */
const reached = { service: Type.String({ minLength: 1 }), port: Type.Integer() };
const checkedBody = part({ maxRequestBytes: amount, allowPartialMessage: flag, packAsBytes: flag });
const authorizer = {
  ...reached,
  timeout: duration,
  failOpen: flag,
  statusOnError: Type.Optional(Type.String({ pattern: '^[1-5][0-9][0-9]$' })),
  includeRequestBodyInCheck: Type.Optional(checkedBody),
  clearRouteCache: flag,
};
const extAuthzHttp = part({
  ...authorizer,
  pathPrefix: text,
  includeHeadersInCheck: texts,
  includeRequestHeadersInCheck: texts,
  includeAdditionalHeadersInCheck: textMap,
  headersToUpstreamOnAllow: texts,
  headersToDownstreamOnDeny: texts,
  headersToDownstreamOnAllow: texts,
});
const extAuthzGrpc = part(authorizer);
const header = part({ name: text, value: text, envName: text });
const opentelemetry = part({
  ...reached,
  maxTagLength: amount,
  http: Type.Optional(part({ path: text, timeout: duration, headers: many(header) })),
  grpc: Type.Optional(part({ timeout: duration, initialMetadata: many(header) })),
  resourceDetectors: Type.Optional(Type.Unknown()),
  dynatraceSampler: Type.Optional(Type.Unknown()),
});
const zipkin = part({
  ...reached,
  maxTagLength: amount,
  path: text,
  enable64bitTraceId: flag,
  traceContextOption: text,
  timeout: duration,
  headers: many(header),
});
const fileAccessLog = part({
  path: text,
  logFormat: Type.Optional(part({ text, labels: textMap })),
  omitEmptyValues: flag,
});

export const providerSpec = part({
  name: Type.String({ minLength: 1, maxLength: 253 }),
  envoyExtAuthzHttp: Type.Optional(extAuthzHttp),
  envoyExtAuthzGrpc: Type.Optional(extAuthzGrpc),
  opentelemetry: Type.Optional(opentelemetry),
  zipkin: Type.Optional(zipkin),
  envoyFileAccessLog: Type.Optional(fileAccessLog),
  prometheus: Type.Optional(part({})),
});
export type ProviderSpec = Static<typeof providerSpec>;
export type AuthorizerSpec = Static<typeof extAuthzGrpc>;
export type ExtAuthzHttpSpec = Static<typeof extAuthzHttp>;
export type OpentelemetrySpec = Static<typeof opentelemetry>;
export type ZipkinSpec = Static<typeof zipkin>;
export type FileAccessLogSpec = Static<typeof fileAccessLog>;

export const defaultProvidersSpec = part({ metrics: texts, accessLogging: texts, tracing: texts });
export const accessLogSpec = part({
  accessLogFile: text,
  accessLogFormat: text,
  accessLogEncoding: Type.Optional(Type.Enum(['TEXT', 'JSON'])),
});
export const tracingSpec = part({
  sampling: Type.Optional(Type.Number({ minimum: 0, maximum: 100 })),
  zipkin: Type.Optional(part({ address: text })),
});
const labelKey = Type.String({ minLength: 1, maxLength: 317 });
export const labelSelectorSpec = part({
  matchLabels: Type.Optional(Type.Record(labelKey, Type.String({ maxLength: 63 }))),
  matchExpressions: many(
    Type.Object(
      {
        key: labelKey,
        operator: Type.Enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: Type.Optional(Type.Array(Type.String({ maxLength: 63 }), { maxItems: 1000 })),
      },
      { additionalProperties: false },
    ),
    100,
  ),
});
export type LabelSelectorSpec = Static<typeof labelSelectorSpec>;
export const discoverySelectorsSpec = Type.Array(labelSelectorSpec, { maxItems: 100 });
export const pathNormalizationSpec = part({ normalization: text });
