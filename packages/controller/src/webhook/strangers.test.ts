import { beforeEach, describe, expect, test } from '@jest/globals';

import type { WebhookWorld } from '../../test/webhook-world.ts';
import { rootNamespace, webhookWorld } from '../../test/webhook-world.ts';
import { compileMeshConfig } from '../translate/mesh-config.ts';

let world: WebhookWorld;

const gatewayClass = (name: string, controllerName: string): object => ({
  kind: 'GatewayClass',
  metadata: { name },
  spec: { controllerName },
});
const gateway = (name: string, gatewayClassName: string, labels = {}): object => ({
  kind: 'Gateway',
  metadata: { name, namespace: 'shop', labels },
  spec: {
    gatewayClassName,
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  },
});
const service = (name: string, labels = {}): object => ({
  kind: 'Service',
  metadata: { name, namespace: 'shop', labels },
  spec: { clusterIPs: ['10.96.0.1'], ports: [{ name: 'http', port: 80 }] },
});

beforeEach(() => {
  world = webhookWorld();
  world.put({ kind: 'Namespace', metadata: { name: 'shop' } });
  world.put(service('web', { 'istio.io/use-waypoint': 'waypoint' }));
  for (const name of ['istio-waypoint', 'istio'])
    world.put(gatewayClass(name, 'ambit.dev/mesh-controller'));
  world.put(gatewayClass('nginx', 'example.com/nginx'));
  world.put(gateway('waypoint', 'istio-waypoint'));
  world.put(gateway('ingress', 'nginx'));
  world.put(gateway('way-in', 'istio'));
});

const none =
  'takes no routes; name a Service, a ServiceEntry or the Gateway of a waypoint' as const;

describe('a route', () => {
  const route = (parentRefs: readonly object[], kind = 'HTTPRoute', more = {}): object => ({
    kind,
    metadata: { name: 'r', namespace: 'shop' },
    spec: {
      parentRefs,
      rules: [{ backendRefs: [{ name: 'web', port: 80 }] }],
      ...more,
    },
  });
  const web = { group: '', kind: 'Service', name: 'web' };
  const entry = { group: 'networking.istio.io', kind: 'ServiceEntry', name: 'api' };

  test.each(['HTTPRoute', 'GRPCRoute', 'TCPRoute', 'TLSRoute'])(
    '%s of a Service that is not there',
    (kind) => {
      expect(world.warnings(route([{ ...web, name: 'wbe' }], kind))).toEqual([
        'spec.parentRefs[0]: there is no Service shop/wbe',
      ]);
      expect(world.warnings(route([web], kind))).toEqual([]);
    },
  );

  test.each<[string, object, readonly string[]]>([
    [
      'a port that the Service has not',
      { ...web, port: 81 },
      ['spec.parentRefs[1]: Service shop/web has no TCP port with number 81'],
    ],
    [
      'a ServiceEntry that is not there',
      entry,
      ['spec.parentRefs[1]: there is no ServiceEntry shop/api that holds a host'],
    ],
    [
      'a Gateway that is not there',
      { name: 'gone' },
      ['spec.parentRefs[1].name: there is no Gateway shop/gone'],
    ],
    [
      'a Gateway that nobody serves',
      { name: 'way-in' },
      [
        'spec.parentRefs[1]: nothing is done for Gateway shop/way-in: nobody serves istio: this controller serves the class istio-waypoint only',
      ],
    ],
    [
      'a Service in the group that is taken for granted',
      { kind: 'Service', name: 'web' },
      ['spec.parentRefs[1].group: must be "" for a Service; the reference is not followed'],
    ],
    [
      'a ServiceEntry without its group',
      { kind: 'ServiceEntry', name: 'api' },
      [
        'spec.parentRefs[1].group: must be "networking.istio.io" for a ServiceEntry; the reference is not followed',
      ],
    ],
    [
      'another kind',
      { group: '', kind: 'Pod', name: 'web-0' },
      [`spec.parentRefs[1].kind: Pod of group "" ${none}`],
    ],
    [
      'another kind of Istio',
      { group: 'networking.istio.io', kind: 'VirtualService', name: 'web' },
      [`spec.parentRefs[1].kind: VirtualService of group "networking.istio.io" ${none}`],
    ],
    ['the Gateway of a waypoint', { name: 'waypoint' }, []],
    ['a Gateway of another controller', { name: 'ingress' }, []],
    ['a kind of another group', { group: 'example.com', kind: 'Mesh', name: 'm' }, []],
  ])('beside its Service names %s', (_what, ref, expected) => {
    expect(world.warnings(route([web, ref]))).toEqual(expected);
    expect(world.warnings(route([ref]))).toEqual(
      expected.map((one) => one.replace('parentRefs[1]', 'parentRefs[0]')),
    );
  });

  test.each(['HTTPRoute', 'GRPCRoute'])('%s of ports that carry no requests', (kind) => {
    const labels = { 'istio.io/use-waypoint': 'waypoint' };
    const ports = [
      { name: 'tcp-a', port: 80 },
      { name: 'b', port: 443, appProtocol: 'https' },
      { name: 'c', port: 8080 },
    ];
    const spec = { clusterIPs: ['10.96.0.2'], ports };
    world.put({ kind: 'Service', metadata: { name: 'db', namespace: 'shop', labels }, spec });
    const told = (port?: number): readonly string[] =>
      world.warnings(route([{ ...web, name: 'db', ...(port && { port }) }], kind));
    const idle =
      'spec.parentRefs[0]: no port of Service shop/db that it is for carries HTTP, as their names and appProtocol say: no request is routed; name the port http, or use a TCPRoute';
    expect([told(), told(80), told(443), told(8080)]).toEqual([[], [idle], [idle], []]);
    expect(world.warnings(route([{ ...web, name: 'db', port: 80 }], 'TCPRoute'))).toEqual([]);
  });

  test('without parents', () => {
    const empty = [
      'spec.parentRefs: is empty, so the route is for nothing; name a Service, a ServiceEntry or a Gateway',
    ];
    expect(world.warnings(route([]))).toEqual(empty);
    expect(world.warnings(route([], 'HTTPRoute', { useDefaultGateways: 'All' }))).toEqual([]);
  });

  test('of a waypoint to which nothing is bound', () => {
    world.put(service('web'));
    expect(world.warnings(route([{ name: 'waypoint' }]))).toEqual([
      'spec.parentRefs[0]: no service is bound to this waypoint',
    ]);
    world.collections.sources.gatewayAccounts.delete('shop/waypoint');
    expect(world.warnings(route([{ name: 'waypoint' }]))).toEqual([]);
  });

  test('whose Gateway is in a namespace that is not read', () => {
    const mesh = { discoverySelectors: [{ matchLabels: { mesh: 'on' } }] };
    world.put({ kind: 'Namespace', metadata: { name: 'shop', labels: { mesh: 'on' } } });
    const config = compileMeshConfig(mesh, 'ConfigMap');
    world.collections.sources.meshConfig.set(`${rootNamespace}/istio`, config);
    expect(world.warnings(route([{ name: 'gone', namespace: 'elsewhere' }]))).toEqual([]);
    expect(world.warnings(route([{ name: 'gone' }]))).toHaveLength(1);
  });

  test('of another controller alone is not judged, whatever it says', () => {
    const rules = [{ filters: [{ type: 'ExtensionRef' }], sessionPersistence: { sessionName: 1 } }];
    const { errors, warnings } = world.judge(route([{ name: 'ingress' }], 'HTTPRoute', { rules }));
    expect([errors, warnings]).toEqual([[], []]);
  });
});

describe('a Gateway', () => {
  test.each<[string, readonly string[]]>([
    ['istio-waypoint', []],
    ['nginx', []],
    [
      'istio',
      [
        'spec.gatewayClassName: nobody serves istio: this controller serves the class istio-waypoint only',
      ],
    ],
    [
      'istio-wayponit',
      [
        'spec.gatewayClassName: there is no GatewayClass istio-wayponit, so nobody serves it; the class of waypoints is istio-waypoint',
      ],
    ],
  ])('of class %s', (name, expected) => {
    expect(world.warnings(gateway('one', name))).toEqual(expected);
  });

  test('of another revision is its control plane to judge', () => {
    expect(world.warnings(gateway('one', 'istio', { 'istio.io/rev': 'canary' }))).toEqual([]);
  });
});

test('a GatewayClass that names this controller, which serves one class', () => {
  const ours = (name: string) => world.warnings(gatewayClass(name, 'ambit.dev/mesh-controller'));
  expect(ours('istio-waypoint')).toEqual([]);
  expect(ours('mine')).toEqual([
    'metadata.name: this controller serves the class istio-waypoint only',
  ]);
  expect(world.warnings(gatewayClass('other', 'example.com/x'))).toEqual([]);
});
