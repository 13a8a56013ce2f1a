import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeGateway } from '../kube/decode/configuration.ts';
import { decodeService } from '../kube/decode/service.ts';
import type { ClassDefaults, CompiledWaypoint } from './waypoint.ts';
import { bindingOf, compileAnyWaypoint, compileWaypoint, obstacleOf } from './waypoint.ts';

const cluster = {
  clusterId: 'c1',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};

function waypoint(
  spec: object = {},
  labels: object = {},
  { defaults, ...more }: { defaults?: ClassDefaults; annotations?: object } = {},
): CompiledWaypoint | undefined {
  const object = {
    metadata: { name: 'waypoint', namespace: 'shop', uid: 'u', labels, ...more },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      ...spec,
    },
  };
  return compileWaypoint(decoded(decodeGateway, object), cluster, defaults);
}

describe('a Gateway', () => {
  test('of our class is a waypoint', () => {
    expect(waypoint()?.gateway).toEqual({
      name: 'waypoint',
      namespace: 'shop',
      className: 'istio-waypoint',
      waypointFor: 'service',
      identity: 'spiffe://cluster.local/ns/shop/sa/waypoint',
      service: 'shop/waypoint.shop.svc.cluster.local',
      xfccClientIdentity: false,
      trustedForwarders: [],
    });
    expect(waypoint()?.problems).toEqual([]);
  });
  test('of another revision is left alone, and one of ours is not', () => {
    expect(waypoint({}, { 'istio.io/rev': 'canary' })).toBeUndefined();
    expect(waypoint({}, { 'istio.io/rev': 'default' })).toBeDefined();
  });
  test('takes from its class what it does not say itself', () => {
    const xfcc = 'ambient.istio.io/xfcc-include-client-identity';
    const defaults = {
      labels: new Map([['istio.io/waypoint-for', 'all']]),
      annotations: new Map([[xfcc, 'true']]),
    };
    expect(waypoint({}, {}, { defaults })?.gateway).toMatchObject({
      waypointFor: 'all',
      xfccClientIdentity: true,
    });
    const own = { defaults, annotations: { [xfcc]: 'false' } };
    expect(waypoint({}, { 'istio.io/waypoint-for': 'workload' }, own)?.gateway).toMatchObject({
      waypointFor: 'workload',
      xfccClientIdentity: false,
    });
    const odd = { ...defaults, labels: new Map([['istio.io/waypoint-for', 'odd']]) };
    expect(waypoint({}, {}, { defaults: odd })?.problems[0]?.field).toBe(
      'GatewayClass istio-waypoint: metadata.labels[istio.io/waypoint-for]',
    );
  });
  test('that breaks its schema is told so, and allows no other namespace', () => {
    const listener = { name: 'mesh', port: 15008, protocol: 'HBONE' };
    const broken = waypoint({ newer: {} });
    expect(broken?.problems.map(({ field }) => field)).toEqual(['spec.newer']);
    const odd = { ...listener, allowedRoutes: { namespaces: { from: 'All', odd: 1 } } };
    expect(waypoint({ listeners: [odd] })?.allows('other', new Map())).toBe(false);
    expect(waypoint({ newer: {}, gatewayClassName: 'nginx' })).toBeUndefined();
  });
  test('of another class is none of ours', () => {
    expect(waypoint({ gatewayClassName: 'nginx' })).toBeUndefined();
  });
  test.each([
    [
      'no HBONE listener',
      { listeners: [{ name: 'x', port: 80, protocol: 'HTTP' }] },
      {},
      'spec.listeners',
    ],
    [
      'another port',
      { listeners: [{ name: 'mesh', port: 1, protocol: 'HBONE' }] },
      {},
      'spec.listeners[0].port',
    ],
    [
      'parameters of another kind',
      { infrastructure: { parametersRef: { group: '', kind: 'Secret', name: 'x' } } },
      {},
      'spec.infrastructure.parametersRef',
    ],
    [
      'an unknown purpose',
      {},
      { 'istio.io/waypoint-for': 'fun' },
      'metadata.labels[istio.io/waypoint-for]',
    ],
  ])('%s is told', (_name, spec, labels, field) => {
    expect(waypoint(spec, labels)?.problems).toMatchObject([{ field }]);
  });
});

describe('binding', () => {
  function bind(
    labels: Readonly<Record<string, string>>,
    options: {
      readonly namespace?: string;
      readonly namespaceLabels?: Readonly<Record<string, string>>;
      readonly gateway?: CompiledWaypoint | undefined;
      readonly what?: 'service' | 'workload';
      readonly obstacle?: string;
    } = {},
  ) {
    const { namespace = 'shop', namespaceLabels = {}, what = 'service', obstacle } = options;
    const gateway = 'gateway' in options ? options.gateway : waypoint();
    const { meta } = decoded(decodeService, {
      metadata: { name: 'reviews', namespace, labels },
      spec: { clusterIP: '10.96.0.1', ports: [] },
    });
    return bindingOf(
      { meta, what },
      {
        namespaceLabels: new Map(Object.entries(namespaceLabels)),
        clusterDomain: 'cluster.local',
        waypoint: (key) => (key === 'shop/waypoint' ? gateway : undefined),
        obstacle: () => obstacle,
      },
    );
  }
  const use = { 'istio.io/use-waypoint': 'waypoint' };
  const bound = {
    kind: 'bound',
    gateway: 'shop/waypoint',
    ref: { kind: 'service', service: 'shop/waypoint.shop.svc.cluster.local', port: 15008 },
  };

  test('by its own label, and by its namespace', () => {
    expect(bind(use)).toEqual(bound);
    expect(bind({}, { namespaceLabels: use })).toEqual(bound);
    expect(bind({})).toEqual({ kind: 'none' });
  });
  test('none opts out', () => {
    expect(bind({ 'istio.io/use-waypoint': 'none' }, { namespaceLabels: use })).toEqual({
      kind: 'none',
    });
  });
  test('what a waypoint consists of is never bound', () => {
    expect(bind({ ...use, 'gateway.networking.k8s.io/gateway-name': 'waypoint' })).toEqual({
      kind: 'none',
    });
  });
  test('by purpose', () => {
    const forWorkloads = waypoint({}, { 'istio.io/waypoint-for': 'workload' });
    expect(bind(use, { gateway: forWorkloads })).toEqual({ kind: 'none' });
    expect(bind(use, { gateway: forWorkloads, what: 'workload' })).toEqual(bound);
    expect(bind(use, { what: 'workload' })).toEqual({ kind: 'none' });
    const forAll = waypoint({}, { 'istio.io/waypoint-for': 'all' });
    expect(bind(use, { gateway: forAll, what: 'workload' })).toEqual(bound);
  });
  test('a missing one is refused, not passed by', () => {
    expect(bind(use, { gateway: undefined })).toMatchObject({
      kind: 'broken',
      reason: 'WaypointMissing',
      ref: bound.ref,
    });
  });
  test('one of another revision that nobody has deployed is told by its revision', () => {
    const labels = { 'istio.io/rev': 'canary' };
    const record = decoded(decodeGateway, {
      metadata: { name: 'w', namespace: 'shop', uid: 'u', labels },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
    const compiled = compileAnyWaypoint(record, cluster);
    expect(compiled?.otherRevision).toBe('canary');
    const none = { service: undefined, account: undefined };
    expect(compiled && obstacleOf(compiled, none)).toContain('is of revision canary');
    const deployed = { service: 'u', account: 'u' };
    expect(compiled && obstacleOf(compiled, deployed)).toBeUndefined();
  });
  test('one whose name others bear is refused, and leads to none of theirs', () => {
    const obstacle = 'Service shop/waypoint is not that of Gateway shop/waypoint';
    const binding = bind(use, { obstacle });
    expect(binding).toMatchObject({
      kind: 'broken',
      reason: 'WaypointBlocked',
      message: expect.stringContaining(obstacle),
    });
    expect(binding).not.toMatchObject({ ref: bound.ref });
  });
  test.each([
    ['Service', { service: '', account: 'u' }],
    ['Service', { service: 'of-another', account: 'u' }],
    ['ServiceAccount', { service: 'u', account: undefined }],
    ['ServiceAccount', { service: 'u', account: 'of-another' }],
    ['ServiceAccount', { service: undefined, account: undefined }],
  ])('%s in the way: %j', (kind, holders) => {
    const compiled = waypoint();
    expect(compiled && obstacleOf(compiled, holders)).toContain(`${kind} shop/waypoint`);
  });
  test('nothing in the way of its own, nor before it has a Service', () => {
    const compiled = waypoint();
    for (const service of ['u', undefined])
      expect(compiled && obstacleOf(compiled, { service, account: 'u' })).toBeUndefined();
  });
  test('a missing one of a workload: refused where the workload itself names it, unknown where its namespace does', () => {
    expect(bind(use, { gateway: undefined, what: 'workload' })).toMatchObject({ kind: 'broken' });
    const inherited = { gateway: undefined, what: 'workload', namespaceLabels: use } as const;
    expect(bind({}, inherited)).toEqual({ kind: 'none' });
  });
  test.each([
    ['Same', undefined, 'broken'],
    ['All', undefined, 'bound'],
    ['Selector', { matchLabels: { team: 'a' } }, 'bound'],
    ['Selector', { matchLabels: { team: 'b' } }, 'broken'],
    ['Selector', { matchExpressions: [{ key: 'team', operator: 'In', values: ['a'] }] }, 'bound'],
    ['Selector', { matchExpressions: [{ key: 'team', operator: 'Guess' }] }, 'broken'],
  ])('from another namespace: allowed from %s %j is %s', (from, selector, kind) => {
    const gateway = waypoint({
      listeners: [
        {
          name: 'mesh',
          port: 15008,
          protocol: 'HBONE',
          allowedRoutes: { namespaces: { from, ...(selector === undefined ? {} : { selector }) } },
        },
      ],
    });
    const labels = { ...use, 'istio.io/use-waypoint-namespace': 'shop' };
    const binding = bind(labels, { namespace: 'other', namespaceLabels: { team: 'a' }, gateway });
    expect(binding.kind).toBe(kind);
    // Whoever is not allowed is not led to the waypoint either.
    if (kind === 'broken') expect(binding).not.toMatchObject({ ref: bound.ref });
  });
});
