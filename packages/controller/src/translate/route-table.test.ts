import { describe, expect, test } from '@jest/globals';
import type { Port, RouteTable, Service, ServiceKey } from '@ambit/api';
import { aService } from '@ambit/testkit';

import { decoded } from '../../test/records.ts';
import { decodeVirtualService } from '../kube/decode/configuration.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { AnyGatewayRoute } from './gateway-route.ts';
import { compileGatewayRoute } from './gateway-route.ts';
import { regexProblem } from './regex.ts';
import { routeTableOf } from './route-table.ts';
import { compileVirtualService } from './virtual-service.ts';
import { mergeVirtualServices } from './virtual-service-merge.ts';

const key = 'shop/web.shop.svc.cluster.local' as ServiceKey;
const service: Service = aService({
  name: 'web',
  namespace: 'shop',
  vips: ['10.0.0.1'],
  ports: [
    { name: 'http', port: 80, appProtocol: '' },
    { name: 'admin', port: 8080, appProtocol: '' },
  ],
});

function virtual(name: string, namespace: string, created: number, spec: object) {
  return compileVirtualService(
    decoded(decodeVirtualService, {
      metadata: { name, namespace, creationTimestamp: `2026-01-01T00:00:0${created}Z` },
      spec: { hosts: ['web.shop'], ...spec },
    }),
    {
      clusterDomain: 'cluster.local',
      rootNamespace: 'istio-system',
      ports: () => [80, 8080] as Port[],
      hasSubset: () => false,
      delegate: () => undefined,
      regexProblem,
      insteadOf: () => undefined,
    },
  );
}

const to = { destination: { host: 'web.shop', port: { number: 80 } } };
const http = (match: object = {}): object => ({ http: [{ match: [match], route: [to] }] });

function merged(...all: ReturnType<typeof virtual>[]): RouteTable {
  const table = mergeVirtualServices(
    { service: key, namespace: 'shop', ports: [80, 8080] as Port[] },
    'istio-system',
    all,
  );
  if (table === undefined) throw new TypeError('no table');
  return table;
}

const rows = ({ http: routes }: RouteTable): unknown[] =>
  routes.map(({ name, matches }) => [
    name.replace('VirtualService/', ''),
    matches.map(({ sourceNamespace, port }) => sourceNamespace ?? port),
  ]);

describe('several VirtualServices of one host', () => {
  test('the oldest comes first, whatever the order in which they are heard of', () => {
    expect(rows(merged(virtual('b', 'shop', 2, http()), virtual('c', 'shop', 1, http())))).toEqual([
      ['shop/c', [undefined]],
      ['shop/b', [undefined]],
    ]);
  });

  test('one of another namespace holds for its own clients only, and first for them', () => {
    const table = merged(
      virtual('own', 'shop', 1, http()),
      virtual('theirs', 'other', 2, { ...http(), tcp: [{ route: [to] }] }),
    );
    expect(rows(table)).toEqual([
      ['other/theirs', ['other']],
      ['shop/own', [undefined]],
    ]);
    expect(table.tcp).toMatchObject([{ matches: [{ sourceNamespace: 'other' }] }]);
  });

  test('what it says of clients of a third namespace never holds', () => {
    const table = merged(virtual('theirs', 'other', 1, http({ sourceNamespace: 'third' })));
    expect(table.http).toEqual([]);
  });

  test('a port that no route speaks of goes to the service', () => {
    expect(rows(merged(virtual('own', 'shop', 1, http({ port: 80 }))))).toEqual([
      ['shop/own', [80]],
      ['default', [8080]],
    ]);
  });

  test('a wildcard holds where none names the service, the longest of them, for each circle of clients', () => {
    const with_ = (...hosts: string[]): object => ({ hosts, ...http() });
    const all = virtual('all', 'istio-system', 1, with_('*'));
    const longer = virtual('longer', 'shop', 2, with_('*.shop.svc.cluster.local', '*.cart'));
    const theirs = virtual('theirs', 'other', 3, with_('*.local'));
    const own = virtual('own', 'shop', 4, http());
    expect(all.problems).toEqual([]);
    expect(rows(merged(all))).toEqual([['istio-system/all', [undefined]]]);
    expect(rows(merged(all, longer))).toEqual([['shop/longer', [undefined]]]);
    expect(rows(merged(theirs, own, longer, all))).toEqual([
      ['other/theirs', ['other']],
      ['shop/own', [undefined]],
    ]);
    const elsewhere = virtual('elsewhere', 'shop', 5, with_('*.example.com'));
    expect(() => merged(elsewhere)).toThrow('no table');
  });

  test.each<readonly [string, string, string[], unknown[]]>([
    ['own, to all', 'shop', ['*'], [['shop/a', [undefined]]]],
    ['own, to itself', 'shop', ['.'], [['shop/a', [undefined]]]],
    ['own, to another', 'shop', ['x'], [['shop/a', ['x']]]],
    ['of the root, to all', 'istio-system', ['*'], [['istio-system/a', [undefined]]]],
    ['of the root, to itself', 'istio-system', ['.'], [['istio-system/a', ['istio-system']]]],
    ['of another, to itself', 'other', ['.'], [['other/a', ['other']]]],
    ['of another, to a third', 'other', ['x'], []],
  ])('exportTo: %s', (_name, namespace, exportTo, expected) => {
    const table = merged(virtual('a', namespace, 1, { exportTo, ...http() }));
    expect(rows(table).filter((row) => (row as string[])[0] !== 'default')).toEqual(expected);
  });

  test('exportTo that is no namespace is told', () => {
    const { problems } = virtual('a', 'shop', 1, { exportTo: ['A b'], ...http() });
    expect(problems).toMatchObject([{ field: 'spec.exportTo[0]' }]);
  });
});

describe('both APIs', () => {
  const web = { group: '', kind: 'Service', name: 'web', namespace: 'shop', port: 80 };

  function attached(namespace: string, rule: object = {}, parent: object = web) {
    const meta = decodeMetadata({ metadata: { name: 'r', namespace } })!;
    const spec = {
      parentRefs: [parent],
      rules: [{ backendRefs: [{ name: 'web', namespace: 'shop', port: 80 }], ...rule }],
    };
    const compiled = compileGatewayRoute(
      { kind: 'HTTPRoute', meta, spec } as unknown as AnyGatewayRoute,
      {
        clusterDomain: 'cluster.local',
        waypoint: () => ({
          listeners: ['mesh'],
          allows: () => true,
          services: () => [service],
          isDeployed: () => true,
        }),
        service: () => service,
        granted: () => true,
        regexProblem,
      },
    );
    return compiled.parents.map((parent) => ({ compiled, meta, parent }));
  }
  const own = merged(virtual('own', 'shop', 1, http()));

  test('the Gateway API is heard', () => {
    const table = routeTableOf(service, attached('shop'), own)!;
    expect(table.http.map(({ name }) => name)).toEqual(['HTTPRoute/shop/r/0', 'Service/shop/web']);
  });

  test('a route of consumers takes nothing away from anybody else', () => {
    const table = routeTableOf(service, attached('other'), own)!;
    expect(rows(table)).toEqual([
      ['HTTPRoute/other/r/0', ['other']],
      ['no-route/other', ['other']],
      ['shop/own', [undefined]],
    ]);
    const alone = routeTableOf(service, attached('other'), { ...own, http: [] })!;
    expect(rows(alone).slice(2)).toEqual([
      ['default', [80]],
      ['default', [8080]],
    ]);
  });

  test('a rule that is refused answers errors, and is not gone past', () => {
    const [refused] = attached('shop', { sessionPersistence: {} });
    expect(refused?.parent.accepted.status).toBe(false);
    const table = routeTableOf(service, [refused!], undefined)!;
    expect(table.http[0]?.action).toMatchObject({ targets: [{ target: { kind: 'missing' } }] });
  });

  describe('a route of the Gateway of the waypoint', () => {
    const general = attached('shop', {}, { name: 'waypoint' });

    test('holds where nothing speaks of the service, and what it does not match goes there', () => {
      expect(rows(routeTableOf(service, general, undefined)!)).toEqual([
        ['HTTPRoute/shop/r/0', [undefined]],
        ['default', [80]],
        ['default', [8080]],
      ]);
    });

    test('is passed over where a VirtualService or another route speaks of the service', () => {
      expect(routeTableOf(service, general, own)).toBe(own);
      const both = routeTableOf(service, [...general, ...attached('shop')], undefined)!;
      expect(rows(both)).toEqual(rows(routeTableOf(service, attached('shop'), undefined)!));
    });

    test('comes after those of consumers', () => {
      const table = routeTableOf(service, [...general, ...attached('other')], undefined)!;
      expect(rows(table).slice(0, 3)).toEqual([
        ['HTTPRoute/other/r/0', ['other']],
        ['no-route/other', ['other']],
        ['HTTPRoute/shop/r/0', [undefined]],
      ]);
    });
  });

  test('without either there is no table', () => {
    expect(routeTableOf(service, [], undefined)).toBeUndefined();
  });
});
