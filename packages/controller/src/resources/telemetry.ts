import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { ResourceDefinition } from './crd.ts';
import { oneTarget } from './crd.ts';
import { workloadSelector } from './selector.ts';
import { amount, flag, many, part, text } from './shape.ts';

const targetRef = part({ group: text, kind: text, name: text, namespace: text });
const providers = many(Type.Object({ name: Type.String() }, { additionalProperties: false }), 16);
const mode = Type.Optional(
  Type.Enum(['CLIENT_AND_SERVER', 'CLIENT', 'SERVER'], {
    description: 'Which end is meant; a waypoint counts as SERVER.',
  }),
);
const match = Type.Optional(part({ mode }));

const metricSelector = part({
  metric: Type.Optional(
    Type.Enum([
      'ALL_METRICS',
      'REQUEST_COUNT',
      'REQUEST_DURATION',
      'REQUEST_SIZE',
      'RESPONSE_SIZE',
      'TCP_OPENED_CONNECTIONS',
      'TCP_CLOSED_CONNECTIONS',
      'TCP_SENT_BYTES',
      'TCP_RECEIVED_BYTES',
      'GRPC_REQUEST_MESSAGES',
      'GRPC_RESPONSE_MESSAGES',
    ]),
  ),
  customMetric: text,
  mode,
});

const tagOverride = part({
  operation: Type.Optional(Type.Enum(['UPSERT', 'REMOVE'])),
  value: text,
});

const metricsRule = part({
  providers,
  overrides: many(
    part({
      match: Type.Optional(metricSelector),
      disabled: flag,
      tagOverrides: Type.Optional(Type.Record(Type.String(), tagOverride)),
    }),
    64,
  ),
  reportingInterval: text,
});

const accessLogRule = part({
  match,
  providers,
  disabled: flag,
  filter: Type.Optional(part({ expression: text })),
});

const fromElsewhere = Type.Optional(part({ name: text, defaultValue: text }));
const customTag = part({
  literal: Type.Optional(part({ value: text })),
  environment: fromElsewhere,
  header: fromElsewhere,
  formatter: Type.Optional(part({ value: text })),
});

const tracingRule = part({
  match,
  providers,
  randomSamplingPercentage: amount,
  disableSpanReporting: flag,
  customTags: Type.Optional(Type.Record(Type.String(), customTag)),
  useRequestIdForTraceSampling: flag,
  enableIstioTags: flag,
});

/** `spec` of telemetry.istio.io Telemetry, as its public API reference has it. */
export const telemetrySpec = Type.Object(
  {
    selector: Type.Optional(workloadSelector),
    targetRef: Type.Optional(targetRef),
    targetRefs: many(targetRef, 16),
    tracing: many(tracingRule, 64),
    metrics: many(metricsRule, 64),
    accessLogging: many(accessLogRule, 64),
  },
  { additionalProperties: false, description: 'What is told of traffic, and where.' },
);
export type TelemetrySpec = Static<typeof telemetrySpec>;
export type MetricsRuleSpec = Static<typeof metricsRule>;
export type AccessLogRuleSpec = Static<typeof accessLogRule>;
export type TracingRuleSpec = Static<typeof tracingRule>;
export type CustomTagSpec = Static<typeof customTag>;

export const telemetryResource: ResourceDefinition = {
  group: 'telemetry.istio.io',
  kind: 'Telemetry',
  plural: 'telemetries',
  singular: 'telemetry',
  shortNames: ['telemetry'],
  categories: ['istio-io', 'telemetry-istio-io'],
  versions: ['v1', 'v1alpha1'],
  spec: telemetrySpec,
  rules: [oneTarget],
  columns: [],
  refused: new Map([
    ['selector', 'selects no waypoint; name a Service or Gateway in targetRefs, or a namespace'],
    ['metrics[].reportingInterval', 'is not there: figures are always the newest; remove it'],
    ['metrics[].overrides[].match.customMetric', 'is not there; name one of the standard metrics'],
    [
      'tracing[].useRequestIdForTraceSampling',
      'is not there: the caller decides by traceparent or B3; remove it',
    ],
  ]),
};
