import { expect, test } from '@jest/globals';
import type { PolicyTarget, Telemetry } from '@ambit/api';
import { aMesh } from '@ambit/testkit';
import { layersFor, resolveTelemetry } from './resolve.ts';

const format = { kind: 'default-text' } as const;
const mesh = aMesh({
  providers: [
    { kind: 'access-log', name: 'own', path: '/dev/stdout', format },
    { kind: 'zipkin', name: 'zipkin', address: { host: 'z', port: 1 }, path: '', maxTagLength: 0 },
    { kind: 'opentelemetry', name: 'grpc', address: { host: 'o', port: 1 }, maxTagLength: 0 },
  ],
  traceSamplingPercent: 1,
});

function layer(fields: Partial<Telemetry>): Telemetry {
  return {
    name: 'a',
    namespace: 'shop',
    createdAtMs: 0,
    scope: { kind: 'namespace' },
    metrics: [],
    accessLogs: [],
    tracing: [],
    ...fields,
  };
}

function logsOf(...layers: Telemetry[]): readonly (readonly [string, string | undefined])[] {
  return resolveTelemetry(layers, mesh).logs.map(({ provider, filter }) => [provider.name, filter]);
}

const log = (fields: Partial<Telemetry['accessLogs'][number]> = {}) =>
  layer({ accessLogs: [{ providers: [], disabled: false, ...fields }] });

test('without Telemetry the defaults of the mesh hold', () => {
  const { metrics, logs, tracing } = resolveTelemetry([], mesh);
  expect(metrics).toEqual([]);
  expect(logs.map(({ provider }) => provider.name)).toEqual(['envoy']);
  expect(tracing).toMatchObject({ provider: undefined, samplingPercent: 1, istioTags: true });
  const silent = { metrics: [], accessLogging: [], tracing: [] };
  expect(resolveTelemetry([], { ...mesh, defaultProviders: silent })).toMatchObject({
    metrics: 'off',
    logs: [],
  });
});

test('layers: the root, the namespace, then what names a target; of several for a namespace the oldest', () => {
  const service = { kind: 'service', service: 'shop/a' } as PolicyTarget;
  const gateway: PolicyTarget = { kind: 'gateway', namespace: 'shop', name: 'waypoint' };
  const all = [
    layer({ name: 'service', scope: { kind: 'targeted', targets: [service] } }),
    layer({ name: 'gateway', scope: { kind: 'targeted', targets: [gateway] } }),
    layer({ name: 'young', createdAtMs: 2 }),
    layer({ name: 'old', createdAtMs: 1 }),
    layer({ name: 'root', namespace: 'istio-system' }),
    layer({ name: 'other', namespace: 'other' }),
    layer({
      name: 'elsewhere',
      scope: { kind: 'targeted', targets: [{ ...gateway, namespace: 'other' }] },
    }),
  ];
  const place = {
    namespace: 'shop',
    rootNamespace: 'istio-system',
    targets: [gateway, service],
  };
  expect(layersFor(all, place).map(({ name }) => name)).toEqual([
    'root',
    'old',
    'gateway',
    'service',
  ]);
});

test('logs: inherited, replaced, filtered and turned off', () => {
  expect(logsOf(log({ filter: 'a' }))).toEqual([['envoy', 'a']]);
  expect(logsOf(log({ filter: 'a' }), log({ providers: ['own'] }))).toEqual([['own', undefined]]);
  expect(logsOf(log({ providers: ['envoy', 'own'] }), log({ filter: 'b' }))).toEqual([
    ['envoy', 'b'],
    ['own', 'b'],
  ]);
  expect(logsOf(log({ disabled: true }))).toEqual([]);
  expect(logsOf(log({ disabled: true }), log({ providers: ['envoy'] }))).toEqual([
    ['envoy', undefined],
  ]);
  // A provider that is none hides nothing.
  expect(logsOf(log({ providers: ['nobody'] }))).toEqual([['envoy', undefined]]);
});

test('metrics: later overrides win, tag by tag', () => {
  const metric = (fields: Partial<Telemetry['metrics'][number]['overrides'][number]>) =>
    layer({
      metrics: [
        { providers: [], overrides: [{ metrics: ['REQUEST_COUNT'], tags: [], ...fields }] },
      ],
    });
  expect(
    resolveTelemetry(
      [
        metric({ disabled: true, tags: [{ name: 'a' }, { name: 'b', value: 'x' }] }),
        metric({ disabled: false, tags: [{ name: 'a', value: 'y' }] }),
      ],
      mesh,
    ).metrics,
  ).toEqual([
    {
      metric: 'REQUEST_COUNT',
      disabled: false,
      tags: [
        ['a', 'y'],
        ['b', 'x'],
      ],
    },
  ]);
});

test('tracing: each field on its own from the last that gives it', () => {
  const trace = (fields: Partial<Telemetry['tracing'][number]>) =>
    layer({ tracing: [{ providers: [], ...fields }] });
  const { tracing } = resolveTelemetry(
    [trace({ providers: ['zipkin'], samplingPercent: 50 }), trace({ istioTags: false })],
    mesh,
  );
  expect(tracing).toMatchObject({
    provider: { name: 'zipkin' },
    samplingPercent: 50,
    istioTags: false,
  });
  const provider = (...layers: Telemetry[]) => resolveTelemetry(layers, mesh).tracing.provider;
  expect(provider(trace({ providers: ['grpc'] }))).toBeUndefined();
  expect(provider(trace({ providers: ['zipkin'] }), trace({ disabled: true }))).toBeUndefined();
  expect(
    provider(trace({ providers: ['zipkin'], disabled: true }), trace({ disabled: false })),
  ).toBeDefined();
});
