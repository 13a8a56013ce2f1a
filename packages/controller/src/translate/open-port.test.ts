import { describe, expect, test } from '@jest/globals';
import type { Port, RouteTable, ServiceKey } from '@ambit/api';
import { decodeRouteTable, decodeWith } from '@ambit/api';

import { compileSpec, destination } from '../../test/virtual-services.ts';
import { mergeVirtualServices } from './virtual-service-merge.ts';

const cart = 'shop/cart.shop.svc.cluster.local' as ServiceKey;
const reviews = 'shop/reviews.shop.svc.cluster.local';

function tableOf(spec: object, service = cart, ports = [8080, 9090]) {
  const compiled = compileSpec(spec);
  const routed = { service, namespace: 'shop', ports: ports as Port[] };
  const table = mergeVirtualServices(routed, 'istio-system', [compiled]) as RouteTable;
  const read = decodeWith(decodeRouteTable, JSON.parse(JSON.stringify(table)) as unknown);
  expect(read.ok).toBe(true);
  const told = compiled.problems.map((one) => `${one.field}: ${one.message}`);
  return { table: read.ok ? read.value : table, told, compiled };
}

const target = (port: number, service: string = cart) => [{ target: { service, port } }];
const refused = [{ target: { kind: 'missing', why: expect.stringContaining('9090') as unknown } }];

describe('a destination without a port, of a Service with several', () => {
  test('keeps the port on which the request came', () => {
    const { table, told } = tableOf({
      hosts: ['cart'],
      http: [{ route: [destination('cart')], mirror: { host: 'cart' } }],
    });
    expect(told).toEqual([]);
    expect(table.http).toMatchObject([
      { matches: [{ port: 8080 }], action: { targets: target(8080) }, mirrors: target(8080) },
      { matches: [{ port: 9090 }], action: { targets: target(9090) }, mirrors: target(9090) },
    ]);
    expect(table.http).toHaveLength(2);
    expect(JSON.stringify(table)).not.toContain('openPorts');
  });

  test('holds only where its match does, and leaves the others as they are', () => {
    const { table, told } = tableOf({
      hosts: ['cart'],
      http: [
        { name: 'a', match: [{ port: 9090 }], route: [destination('cart')] },
        { name: 'b', match: [{ uri: { prefix: '/x' } }], route: [destination('reviews')] },
        {
          name: 'c',
          match: [{ uri: { prefix: '/y' } }, { uri: { prefix: '/z' }, port: 8080 }],
          route: [
            { ...destination('cart'), weight: 1 },
            { ...destination('reviews'), weight: 2 },
          ],
        },
      ],
    });
    expect(told).toEqual([]);
    expect(table.http).toMatchObject([
      {
        name: 'VirtualService/shop/vs/a',
        matches: [{ port: 9090 }],
        action: { targets: target(9090) },
      },
      { name: 'VirtualService/shop/vs/b', action: { targets: target(8080, reviews) } },
      {
        name: 'VirtualService/shop/vs/c',
        matches: [
          { port: 8080, path: { value: '/y' } },
          { port: 8080, path: { value: '/z' } },
        ],
        action: { targets: [...target(8080), ...target(8080, reviews)] },
      },
      {
        name: 'VirtualService/shop/vs/c',
        matches: [{ port: 9090, path: { value: '/y' } }],
        action: { targets: [...target(9090), ...target(8080, reviews)] },
      },
    ]);
    expect(table.http).toHaveLength(4);
  });

  test('of tcp and tls as well', () => {
    const { table, told } = tableOf({
      hosts: ['cart'],
      tcp: [{ route: [destination('cart')] }],
      tls: [{ match: [{ port: 9090, sniHosts: ['a.b'] }], route: [destination('cart')] }],
    });
    expect(told).toEqual([]);
    expect(table.tcp).toMatchObject([
      { matches: [{ port: 8080 }], targets: target(8080) },
      { matches: [{ port: 9090 }], targets: target(9090) },
    ]);
    expect(table.tls).toMatchObject([
      { matches: [{ port: 9090, sniHosts: ['a.b'] }], targets: target(9090) },
    ]);
    expect(table.tls).toHaveLength(1);
  });

  test('is refused on a port that the destination does not have', () => {
    const spec = { hosts: ['cart'], http: [{ route: [destination('cart')] }] };
    const { table } = tableOf(spec, cart, [8080, 9090, 7070]);
    expect(table.http[2]).toMatchObject({
      matches: [{ port: 7070 }],
      action: { targets: [{ target: { kind: 'missing' } }] },
    });
  });

  test.each([
    ['http', { route: [destination('cart')] }, 'spec.http[0].route[0].destination', '500'],
    [
      'http',
      { route: [destination('far.other')], mirror: { host: 'cart' } },
      'spec.http[0].mirror',
      'mirrored',
    ],
    ['tcp', { route: [destination('cart')] }, 'spec.tcp[0].route[0].destination', 'refused'],
  ])(
    'is told where none of the ports that requests come on is its: %s %#',
    (kind, route, at, what) => {
      const { told, compiled } = tableOf(
        { hosts: ['far.other'], [kind]: [route] },
        'other/far.other.svc.cluster.local' as ServiceKey,
        [80],
      );
      expect(told).toHaveLength(1);
      expect(told[0]).toContain(
        `${at}.port.number: the Service has several ports (8080, 9090), and none is one`,
      );
      expect(told[0]).toContain(what);
      expect(compiled.problems[0]?.admissible).toBe(true);
    },
  );

  test('is told where the match names a port that is none of the destination', () => {
    const match = [{ port: 9090 }];
    const spec = { hosts: ['cart'], http: [{ match, route: [destination('two')] }] };
    const compiled = compileSpec(spec, {
      ports: ({ name }) => (name === 'two' ? [1, 2] : [8080, 9090]) as Port[],
    });
    expect(compiled.problems).toMatchObject([
      { field: 'spec.http[0].route[0].destination.port.number' },
    ]);
    const routed = { service: cart, namespace: 'shop', ports: [8080, 9090] as Port[] };
    const table = mergeVirtualServices(routed, 'istio-system', [compiled]);
    expect(table?.http[0]).toMatchObject({ matches: match, action: { targets: refused } });
  });
});
