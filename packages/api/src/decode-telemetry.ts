import type { Decoder } from './decode.ts';
import { boolean, integer, list, number, object, oneOf, text, union } from './decode.ts';
import { policyTarget } from './decode-nouns.ts';
import type { AccessLogRule, CustomTag, MetricsRule, Telemetry, TracingRule } from './telemetry.ts';
import { metricNames } from './telemetry.ts';

const metricsRule: Decoder<MetricsRule> = object((f) => ({
  providers: f.get('providers', list(text)),
  overrides: f.get(
    'overrides',
    list(
      object((o) => ({
        metrics: o.get('metrics', list(oneOf(...metricNames))),
        ...o.optional('disabled', boolean),
        tags: o.get(
          'tags',
          list(object((t) => ({ name: t.get('name', text), ...t.optional('value', text) }))),
        ),
      })),
    ),
  ),
}));

const accessLogRule: Decoder<AccessLogRule> = object((f) => ({
  providers: f.get('providers', list(text)),
  disabled: f.get('disabled', boolean),
  ...f.optional('filter', text),
}));

const customTag: Decoder<CustomTag> = union<CustomTag>('kind', {
  literal: object((f) => ({
    kind: 'literal',
    name: f.get('name', text),
    value: f.get('value', text),
  })),
  ...Object.fromEntries(
    (['header', 'environment'] as const).map((kind) => [
      kind,
      object((f): CustomTag => ({
        kind,
        name: f.get('name', text),
        from: f.get('from', text),
        fallback: f.get('fallback', text),
      })),
    ]),
  ),
  format: object((f) => ({
    kind: 'format',
    name: f.get('name', text),
    format: f.get('format', text),
  })),
});

const tracingRule: Decoder<TracingRule> = object((f) => ({
  providers: f.get('providers', list(text)),
  ...f.optional('samplingPercent', number),
  ...f.optional('disabled', boolean),
  ...f.optional('customTags', list(customTag)),
  ...f.optional('istioTags', boolean),
}));

export const decodeTelemetry: Decoder<Telemetry> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  createdAtMs: f.get('createdAtMs', integer),
  scope: f.get(
    'scope',
    union<Telemetry['scope']>('kind', {
      namespace: () => ({ kind: 'namespace' }),
      targeted: object((s) => ({
        kind: 'targeted',
        targets: s.get('targets', list(policyTarget)),
      })),
    }),
  ),
  metrics: f.get('metrics', list(metricsRule)),
  accessLogs: f.get('accessLogs', list(accessLogRule)),
  tracing: f.get('tracing', list(tracingRule)),
}));
