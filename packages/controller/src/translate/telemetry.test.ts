import { expect, test } from '@jest/globals';
import type { ExtensionProvider } from '@ambit/api';
import { decodeTelemetry, decodeWith } from '@ambit/api';

import { decodeTelemetry as decodeRecord } from '../kube/decode/configuration.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { CompiledTelemetry, TelemetryWorld } from './telemetry.ts';
import { compileTelemetry } from './telemetry.ts';

const address = { host: 'otel', port: 4318 } as never;
const otel = { kind: 'opentelemetry', name: 'otel', address, maxTagLength: 256 } as const;
const known: readonly ExtensionProvider[] = [
  { kind: 'prometheus', name: 'prometheus' },
  { kind: 'access-log', name: 'envoy', path: '/dev/stdout', format: { kind: 'default-text' } },
  { kind: 'access-log', name: 'file', path: '/var/log/a', format: { kind: 'default-text' } },
  {
    kind: 'access-log',
    name: 'broken',
    path: '/dev/stdout',
    format: { kind: 'text', text: '%NONE%' },
  },
  { ...otel, http: { path: '/v1/traces', timeoutMs: 1000, headers: [] } },
  { ...otel, name: 'grpc' },
];

function compiled(spec: object, world: Partial<TelemetryWorld> = {}): CompiledTelemetry {
  const object = { metadata: { name: 'one', namespace: 'shop' }, spec };
  const meta = decodeMetadata(object);
  const record = meta && decodeRecord(object, meta);
  if (record?.ok !== true) throw new TypeError('not decoded');
  return compileTelemetry(record.value, {
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
    provider: (name) => known.find((one) => one.name === name),
    firstOfNamespace: undefined,
    ...world,
  });
}

function told(spec: object, world: Partial<TelemetryWorld> = {}): readonly string[] {
  return compiled(spec, world).problems.map(({ field, message }) => `${field}: ${message}`);
}

test('everything that Telemetry says comes out and goes over the wire as it is', () => {
  const { telemetry, problems } = compiled({
    targetRefs: [{ kind: 'Service', name: 'reviews' }],
    metrics: [
      {
        providers: [{ name: 'prometheus' }],
        overrides: [
          {
            match: { metric: 'REQUEST_COUNT', mode: 'SERVER' },
            tagOverrides: {
              source_principal: { operation: 'REMOVE' },
              host: { value: 'request.host' },
            },
          },
          { match: { metric: 'RESPONSE_SIZE' }, disabled: true },
          { match: { mode: 'CLIENT' }, disabled: true },
        ],
      },
    ],
    accessLogging: [
      { providers: [{ name: 'envoy' }], filter: { expression: 'response.code >= 400' } },
      { match: { mode: 'CLIENT' }, disabled: true },
    ],
    tracing: [
      {
        providers: [{ name: 'otel' }],
        randomSamplingPercentage: 12.5,
        customTags: {
          a: { literal: { value: 'x' } },
          b: { header: { name: 'X-Tenant', defaultValue: 'none' } },
          c: { environment: { name: 'ZONE' } },
          d: { formatter: { value: '%RESPONSE_CODE%' } },
        },
        enableIstioTags: false,
      },
    ],
  });
  expect(problems).toEqual([]);
  expect(telemetry).toEqual({
    name: 'one',
    namespace: 'shop',
    createdAtMs: 0,
    scope: {
      kind: 'targeted',
      targets: [{ kind: 'service', service: 'shop/reviews.shop.svc.cluster.local' }],
    },
    metrics: [
      {
        providers: ['prometheus'],
        overrides: [
          {
            metrics: ['REQUEST_COUNT'],
            tags: [{ name: 'source_principal' }, { name: 'host', value: 'request.host' }],
          },
          { metrics: ['RESPONSE_SIZE'], disabled: true, tags: [] },
        ],
      },
    ],
    accessLogs: [{ providers: ['envoy'], disabled: false, filter: 'response.code >= 400' }],
    tracing: [
      {
        providers: ['otel'],
        samplingPercent: 12.5,
        customTags: [
          { kind: 'literal', name: 'a', value: 'x' },
          { kind: 'header', name: 'b', from: 'x-tenant', fallback: 'none' },
          { kind: 'environment', name: 'c', from: 'ZONE', fallback: '' },
          { kind: 'format', name: 'd', format: '%RESPONSE_CODE%' },
        ],
        istioTags: false,
      },
    ],
  });
  expect(decodeWith(decodeTelemetry, JSON.parse(JSON.stringify(telemetry)))).toEqual({
    ok: true,
    value: telemetry,
  });
});

test.each([
  [
    { accessLogging: [{ filter: { expression: 'response.cod > 1' } }] },
    'spec.accessLogging[0].filter.expression: No such key: cod; everything is logged',
  ],
  [
    { accessLogging: [{ providers: [{ name: 'nobody' }] }] },
    'spec.accessLogging[0].providers[0]: no provider is called "nobody"',
  ],
  [{ accessLogging: [{ providers: [{ name: 'file' }] }] }, 'writes to /var/log/a'],
  [{ accessLogging: [{ providers: [{ name: 'broken' }] }] }, 'unknown operator NONE'],
  [{ accessLogging: [{ providers: [{ name: 'otel' }] }] }, 'takes no access log'],
  [{ tracing: [{ providers: [{ name: 'grpc' }] }] }, 'OTLP over gRPC'],
  [{ tracing: [{ randomSamplingPercentage: 101 }] }, 'must be from 0 to 100'],
  [{ tracing: [{ customTags: { a: {} } }] }, 'spec.tracing[0].customTags.a: needs one of'],
  [{ tracing: [{ useRequestIdForTraceSampling: true }] }, 'useRequestIdForTraceSampling: is not'],
  [{ metrics: [{ reportingInterval: '5s' }] }, 'spec.metrics[0].reportingInterval: is not there'],
  [
    { metrics: [{ overrides: [{ tagOverrides: { a: { value: 'nobody' } } }] }] },
    'spec.metrics[0].overrides[0].tagOverrides.a.value: Unknown variable: nobody',
  ],
  [
    { metrics: [{ overrides: [{ tagOverrides: { 'a-b': { operation: 'REMOVE' } } }] }] },
    'is no name that a label',
  ],
  [{ selector: { matchLabels: { app: 'a' } } }, 'spec.selector: selects no waypoint'],
  [{ targetRefs: [{ kind: 'Pod', name: 'a' }] }, 'cannot be a target'],
])('%j: %s', (spec, problem) => {
  expect(told(spec).join('\n')).toContain(problem);
});

test('of two for a namespace the younger is told that the older holds, and what else is wrong', () => {
  const spec = { tracing: [{ randomSamplingPercentage: 101 }] };
  const older = [
    { name: 'one', createdAtMs: 0 },
    { name: 'two', createdAtMs: 0 },
    { name: 'a', createdAtMs: 1 },
  ];
  for (const firstOfNamespace of older) {
    const { telemetry, problems } = compiled(spec, { firstOfNamespace });
    expect(telemetry).toBeDefined();
    expect(problems.map(({ field }) => field)).toEqual([
      'spec.tracing[0].randomSamplingPercentage',
    ]);
  }
  const { telemetry, problems } = compiled(spec, {
    firstOfNamespace: { name: 'a', createdAtMs: 0 },
  });
  expect(telemetry).toBeUndefined();
  expect(problems.map(({ message }) => message)).toEqual([
    'must be from 0 to 100',
    'a is older and alone holds for the whole namespace; merge them',
  ]);
});

test('one that says nothing for a waypoint is told', () => {
  const idle =
    'spec: has no metrics, tracing or accessLogging for a waypoint, which counts as SERVER: nothing is changed; add one';
  const client = { match: { mode: 'CLIENT' } };
  for (const spec of [
    {},
    { targetRefs: [{ kind: 'Service', name: 'reviews' }], metrics: [] },
    { accessLogging: [client], tracing: [client], metrics: [{ overrides: [client] }, {}] },
  ])
    expect(told(spec)).toEqual([idle]);
  for (const spec of [
    { accessLogging: [client, {}] },
    { tracing: [{ randomSamplingPercentage: 1 }] },
    { metrics: [{ providers: [{ name: 'prometheus' }] }] },
    { metrics: [{ overrides: [client, { disabled: true }] }] },
  ])
    expect(told(spec)).toEqual([]);
});
