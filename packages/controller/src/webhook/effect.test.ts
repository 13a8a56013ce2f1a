import { beforeEach, describe, expect, test } from '@jest/globals';

import type { WebhookWorld } from '../../test/webhook-world.ts';
import { webhookWorld } from '../../test/webhook-world.ts';

let world: WebhookWorld;
const bound = { 'istio.io/use-waypoint': 'waypoint' };
const created = { creationTimestamp: '2024-01-01T00:00:00Z' };

const service = (name: string, labels = {}, metadata = {}): object => ({
  kind: 'Service',
  metadata: { name, namespace: 'shop', labels, ...metadata },
  spec: { clusterIPs: ['10.96.0.1'], ports: [{ name: 'http', port: 80 }] },
});
const gateway = (name: string, metadata = {}): object => ({
  kind: 'Gateway',
  metadata: { name, namespace: 'shop', uid: 'own', ...metadata },
  spec: {
    gatewayClassName: 'istio-waypoint',
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  },
});

beforeEach(() => {
  world = webhookWorld();
  world.put({ kind: 'Namespace', metadata: { name: 'shop' } });
  world.put(gateway('waypoint'));
  world.put(service('web', bound));
  world.put(service('free'));
});

describe('a ServiceEntry', () => {
  const entry = (spec: object, labels: object = bound, metadata = {}): object => ({
    kind: 'ServiceEntry',
    metadata: { name: 'api', namespace: 'shop', labels, ...metadata },
    spec: {
      hosts: ['api.example.com'],
      ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
      resolution: 'DNS',
      ...spec,
    },
  });
  const addresses = ['192.0.2.10'];
  const noAddress =
    'spec.addresses: has none that can be captured: it is reached by name through a waypoint, and by routes that name it';
  const nobody =
    'spec.workloadSelector.labels: selects no Pod and no WorkloadEntry of namespace shop now, so it holds for nobody until there is one with these labels';

  test.each<[string, object, readonly string[]]>([
    ['behind a waypoint', entry({}), []],
    ['with an address, behind a waypoint', entry({ addresses }), []],
    [
      'with an address and endpoints',
      entry({ addresses, resolution: 'STATIC', endpoints: [{ address: '192.0.2.1' }] }, {}),
      [],
    ],
    ['without either', entry({}, {}), [noAddress]],
    [
      'that needs a waypoint to resolve it',
      entry({ addresses }, {}),
      ['spec.resolution: names are resolved by waypoints; bind it to one'],
    ],
    [
      'with the name of a Service',
      entry({ hosts: ['web.shop.svc.cluster.local'] }),
      ['spec.hosts[0]: web.shop.svc.cluster.local is the name of Service shop/web; choose another'],
    ],
    [
      'that nobody sees',
      entry({ exportTo: ['~'] }),
      ['spec.exportTo: is ~ alone, so nobody sees it; name a namespace'],
    ],
    [
      'that selects nobody',
      entry({ resolution: 'STATIC', workloadSelector: { labels: { app: 'vm' } } }),
      [nobody],
    ],
    [
      'bound to a waypoint that is not there',
      entry({}, { 'istio.io/use-waypoint': 'gone' }),
      [
        'metadata.labels[istio.io/use-waypoint]: there is no Gateway shop/gone of class istio-waypoint; traffic is refused until there is',
      ],
    ],
  ])('%s', (_what, object, expected) => {
    expect(world.warnings(object)).toEqual(expected);
  });

  test('beside an older one of its host, and as it is stored itself', () => {
    world.put(entry({}, bound, { name: 'old', ...created }));
    expect(world.warnings(entry({}))).toEqual([
      "spec.hosts[0]: api.example.com is ServiceEntry shop/old's, which is older",
    ]);
    expect(world.warnings(entry({}, bound, { name: 'old', ...created }))).toEqual([]);
  });

  test.each<[string, object]>([
    [
      'VirtualService',
      { hosts: ['web'], http: [{ route: [{ destination: { host: 'api.example.com' } }] }] },
    ],
    [
      'HTTPRoute',
      {
        parentRefs: [{ group: '', kind: 'Service', name: 'web', port: 80 }],
        rules: [
          {
            backendRefs: [
              { group: 'networking.istio.io', kind: 'Hostname', name: 'api.example.com', port: 80 },
            ],
          },
        ],
      },
    ],
  ])('without address and waypoint that a %s names', (kind, spec) => {
    world.put({ kind, metadata: { name: 'out', namespace: 'shop' }, spec });
    expect(world.warnings(entry({}, {}))).toEqual([]);
    expect(world.warnings(entry({ hosts: ['other.example.com'] }, {}))).toEqual([noAddress]);
  });

  test('whose waypoint is about to be deployed', () => {
    world.collections.sources.gatewayAccounts.delete('shop/waypoint');
    expect(world.warnings(entry({ addresses }))).toEqual([]);
  });
});

describe('a WorkloadEntry', () => {
  const entry = (labels: object): object => ({
    kind: 'WorkloadEntry',
    metadata: { name: 'vm', namespace: 'shop' },
    spec: { address: '192.0.2.1', labels },
  });

  test('that no ServiceEntry selects', () => {
    const idle =
      'spec.labels: no ServiceEntry of namespace shop selects it, so it is the endpoint of no service; give it the labels of a workloadSelector';
    expect(world.warnings(entry({ app: 'vm' }))).toEqual([idle]);
    expect(world.warnings(entry({ 'networking.istio.io/tunnel': 'http' }))).toEqual([]);
    world.put({
      kind: 'ServiceEntry',
      metadata: { name: 'vms', namespace: 'shop' },
      spec: {
        hosts: ['vms.example.com'],
        ports: [{ number: 80, name: 'http' }],
        resolution: 'STATIC',
        workloadSelector: { labels: { app: 'vm' } },
      },
    });
    expect(world.warnings(entry({ app: 'vm' }))).toEqual([]);
    expect(world.warnings(entry({ app: 'other' }))).toEqual([idle]);
  });
});

describe('routes of a Service', () => {
  const unbound = (field: string): string =>
    `${field}: Service shop/free is bound to no waypoint, and nobody else routes; label istio.io/use-waypoint`;

  test.each(['HTTPRoute', 'GRPCRoute', 'TCPRoute', 'TLSRoute'])('%s without a waypoint', (kind) => {
    const route = (...names: string[]): object => ({
      kind,
      metadata: { name: 'r', namespace: 'shop' },
      spec: {
        parentRefs: names.map((name) => ({ group: '', kind: 'Service', name })),
        rules: [{ backendRefs: [{ name: 'web', port: 80 }] }],
      },
    });
    expect(world.warnings(route('web'))).toEqual([]);
    expect(world.warnings(route('web', 'free'))).toEqual([unbound('spec.parentRefs[1]')]);
    world.put({ kind: 'Namespace', metadata: { name: 'shop', labels: bound } });
    expect(world.warnings(route('web', 'free'))).toEqual([]);
  });

  test('a VirtualService without a waypoint', () => {
    const routing = (...hosts: string[]): readonly string[] =>
      world.warnings({
        kind: 'VirtualService',
        metadata: { name: 'vs', namespace: 'shop' },
        spec: { hosts, http: [{ route: [{ destination: { host: 'free' } }] }] },
      });
    expect(routing('web', '*.example.com')).toEqual([]);
    expect(routing('web', 'free')).toEqual([unbound('spec.hosts')]);
  });
});

test('the Gateway of a waypoint whose name a Service has', () => {
  expect(world.warnings(gateway('new'))).toEqual([]);
  expect(world.warnings(gateway('free'))).toEqual([
    'metadata.name: Service shop/free is not that of Gateway shop/free, which needs another name',
  ]);
});
