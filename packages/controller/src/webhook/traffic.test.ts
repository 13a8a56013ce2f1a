import { beforeEach, describe, expect, test } from '@jest/globals';

import type { WebhookWorld } from '../../test/webhook-world.ts';
import { webhookWorld } from '../../test/webhook-world.ts';

let world: WebhookWorld;
const created = { creationTimestamp: '2024-01-01T00:00:00Z' };

beforeEach(() => {
  world = webhookWorld();
  world.put({
    kind: 'Gateway',
    metadata: { name: 'waypoint', namespace: 'shop' },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    },
  });
  const labels = { 'istio.io/use-waypoint': 'waypoint' };
  world.put({
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', labels },
    spec: { clusterIPs: ['10.96.0.1'], ports: [{ name: 'http', port: 80 }] },
  });
});

const unknown = (field: string, host: string): string =>
  `${field}: "${host}" is no Service of this cluster and no host of a ServiceEntry`;

describe('a DestinationRule', () => {
  const trafficPolicy = { loadBalancer: { simple: 'RANDOM' } };
  const rule = (spec: object, metadata: object = {}): object => ({
    kind: 'DestinationRule',
    metadata: { name: 'new', namespace: 'shop', ...metadata },
    spec: { host: 'web', ...spec },
  });
  const stored = (spec: object): void => world.put(rule(spec, { name: 'old', ...created }));

  test.each<[string, object, readonly string[]]>([
    ['of a Service', { trafficPolicy }, []],
    ['of nobody', { host: 'wbe', trafficPolicy }, [unknown('spec.host', 'wbe')]],
    [
      'of no name of the cluster',
      { host: 'a.b.c', trafficPolicy },
      [unknown('spec.host', 'a.b.c')],
    ],
    ['of all', { host: '*.local', trafficPolicy }, []],
    [
      'that says nothing',
      {},
      [
        'spec.trafficPolicy: is empty, and there are no subsets: the rule changes nothing; add one of the two',
      ],
    ],
    ['with subsets alone', { subsets: [{ name: 'v1', labels: { version: 'v1' } }] }, []],
  ])('%s', (_what, spec, expected) => {
    expect(world.warnings(rule(spec))).toEqual(expected);
  });

  test('of a host that an older one speaks of', () => {
    stored({ trafficPolicy });
    expect(world.warnings(rule({ trafficPolicy }))).toEqual([
      'spec.trafficPolicy: is not used, DestinationRule shop/old of the same host is older; merge them',
    ]);
    expect(world.warnings(rule({ subsets: [{ name: 'v1' }] }))).toEqual([]);
    // It is the one that is stored.
    expect(world.warnings(rule({ trafficPolicy }, { name: 'old', ...created }))).toEqual([]);
  });

  test('in the namespace of a stranger', () => {
    expect(
      world.warnings(rule({ host: 'web.shop', trafficPolicy }, { namespace: 'other' })),
    ).toEqual(['spec.host: has no effect on a service of namespace shop; put the rule there']);
  });
});

describe('a VirtualService', () => {
  const virtualService = (spec: object, name = 'vs'): object => ({
    kind: 'VirtualService',
    metadata: { name, namespace: 'shop' },
    spec,
  });
  const to = (host: string): object => ({ route: [{ destination: { host } }] });

  test.each<[string, object, readonly string[]]>([
    ['of a Service', { hosts: ['web'], http: [to('web')] }, []],
    ['of nobody', { hosts: ['wbe'], http: [to('web')] }, [unknown('spec.hosts[0]', 'wbe')]],
    [
      'that leads to nobody',
      { hosts: ['web'], http: [to('wbe')] },
      [`${unknown('spec.http[0].route[0].destination.host', 'wbe')}; requests are answered 500`],
    ],
    [
      'for Gateways alone',
      { hosts: ['web'], gateways: ['way-in'], http: [to('web')] },
      ['spec.gateways: names no mesh, and Gateways of Istio are not there yet; add mesh'],
    ],
  ])('%s', (_what, spec, expected) => {
    expect(world.warnings(virtualService(spec))).toEqual(expected);
  });

  test('without hosts is a delegate, which does nothing by itself', () => {
    const delegate = virtualService({ http: [to('web')] }, 'inner');
    expect(world.warnings(delegate)).toEqual([
      'spec.hosts: is empty, and no VirtualService delegates to this one: it routes nothing',
    ]);
    const http = [{ delegate: { name: 'inner' } }];
    world.put(virtualService({ hosts: ['web'], http }));
    expect(world.warnings(delegate)).toEqual([]);
    expect(world.warnings(virtualService({ http }, 'outer'))).toContain(
      'spec.http[0].delegate: a delegate may not delegate again; requests are answered 500',
    );
  });
});
