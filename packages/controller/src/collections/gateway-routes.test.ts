import type { HttpRoute, RouteTable } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import {
  decodeGateway,
  decodeGrpcRoute,
  decodeHttpRoute,
  decodeTcpRoute,
  decodeTlsRoute,
} from '../kube/decode/configuration.ts';
import { decodeService } from '../kube/decode/service.ts';
import { SnapshotState } from '../push/state.ts';
import type { GatewayRouteKind } from '../translate/gateway-compilation.ts';
import type { ParentOutcome } from '../translate/gateway-route.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

const cluster = {
  clusterId: 'Kubernetes',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};
const web = { group: '', kind: 'Service', name: 'web' };
const backendRefs = [{ name: 'web', port: 80 }];

test('a route of a Gateway holds for what is bound to it, as services come and go', () => {
  const mesh = createMeshCollections(cluster);
  const state = new SnapshotState(mesh.outputs);
  const { sources } = mesh;
  const service = (name: string, labels: object): void => {
    const spec = { clusterIPs: ['10.96.0.1'], ports: [{ name: 'http', port: 80 }] };
    const object = { metadata: { name, namespace: 'shop', labels }, spec };
    sources.services.set(`shop/${name}`, decoded(decodeService, object));
  };
  const routed = (): readonly string[] => {
    mesh.flush();
    return [...state.all('route').keys()].map((key) => key.split(/[/.]/)[1] ?? '').sort();
  };
  const bound = { 'istio.io/use-waypoint': 'w' };
  service('web', bound);
  service('free', {});
  const metadata = { name: 'r', namespace: 'shop' };
  const spec = { parentRefs: [{ name: 'w' }], rules: [{ backendRefs }] };
  sources.httpRoutes.set('shop/r', decoded(decodeHttpRoute, { metadata, spec }));
  expect(routed()).toEqual([]);
  expect(mesh.l7.gatewayRoutes.HTTPRoute.get('shop/r')?.compiled.parents).toEqual([]);
  const listeners = [{ name: 'mesh', port: 15008, protocol: 'HBONE' }];
  const gateway = {
    metadata: { name: 'w', namespace: 'shop', uid: 'u' },
    spec: { gatewayClassName: 'istio-waypoint', listeners },
  };
  sources.gateways.set('shop/w', decoded(decodeGateway, gateway));
  sources.gatewayAccounts.set('shop/w', { gatewayUid: 'u', createdAtMs: 1 });
  expect(routed()).toEqual(['web']);
  service('later', bound);
  expect(routed()).toEqual(['later', 'web']);
  service('web', {});
  expect(routed()).toEqual(['later']);
  sources.gateways.delete('shop/w');
  expect(routed()).toEqual([]);
});

describe('a route that breaks its schema', () => {
  let mesh: MeshCollections;
  let state: SnapshotState;

  beforeEach(() => {
    mesh = createMeshCollections(cluster);
    state = new SnapshotState(mesh.outputs);
    for (const name of ['web', 'other']) {
      const spec = { clusterIPs: ['10.96.0.1'], ports: [{ name: 'http', port: 80 }] };
      const object = { metadata: { name, namespace: 'shop' }, spec };
      mesh.sources.services.set(`shop/${name}`, decoded(decodeService, object));
    }
  });

  function apply(spec: unknown, kind: GatewayRouteKind = 'HTTPRoute'): readonly ParentOutcome[] {
    const object = { metadata: { name: 'r', namespace: 'shop' }, spec };
    const { httpRoutes, grpcRoutes, tcpRoutes, tlsRoutes } = mesh.sources;
    if (kind === 'HTTPRoute') httpRoutes.set('shop/r', decoded(decodeHttpRoute, object));
    if (kind === 'GRPCRoute') grpcRoutes.set('shop/r', decoded(decodeGrpcRoute, object));
    if (kind === 'TCPRoute') tcpRoutes.set('shop/r', decoded(decodeTcpRoute, object));
    if (kind === 'TLSRoute') tlsRoutes.set('shop/r', decoded(decodeTlsRoute, object));
    mesh.flush();
    return mesh.l7.gatewayRoutes[kind].get('shop/r')?.compiled.parents ?? [];
  }

  function table(service = 'web'): RouteTable | undefined {
    const key = `shop/${service}.shop.svc.cluster.local`;
    return state.all('route').get(key)?.resource as RouteTable | undefined;
  }

  function goesTo({ action }: HttpRoute): string {
    if (action.kind !== 'forward') return action.kind;
    return action.targets.map(({ target }) => target.kind).join();
  }

  test('is told on every parent that can be read, with the field', () => {
    const parentRefs = [web, { ...web, name: 'other', weighs: 1 }, { ...web, name: 7 }];
    const parents = apply({ parentRefs, rules: [{ backendRefs, newer: {} }] });
    expect(parents.map(({ parent }) => parent.name)).toEqual(['web', 'other']);
    for (const { accepted } of parents) {
      expect(accepted.status).toBe(false);
      expect(accepted.message).toContain('spec.rules[0].newer: there is no such field');
      expect(accepted.message).toContain('spec.parentRefs[2].name');
    }
    expect(table('web')?.http.map(goesTo)).toEqual(['missing']);
    expect(table('other')?.http.map(goesTo)).toEqual(['missing']);
  });

  test('closes what its rule matches, and its good rules go on', () => {
    const matches = [{ path: { type: 'Exact', value: '/new' } }];
    apply({ parentRefs: [web], rules: [{ matches, newer: 1, backendRefs }, { backendRefs }] });
    expect(table()?.http.map((one) => [one.matches[0]?.path, goesTo(one)])).toEqual([
      [{ kind: 'exact', value: '/new' }, 'missing'],
      [{ kind: 'path-prefix', value: '/' }, 'service'],
    ]);
  });

  test('closes more than a match meant where a part of it cannot be read', () => {
    const path = { type: 'Exact', value: '/a' };
    const headers = [
      { name: 'x-a', value: '1' },
      { name: 'x-b', value: '1', type: 'Later' },
    ];
    apply({ parentRefs: [web], rules: [{ matches: [{ path, headers }, 'odd'], backendRefs }] });
    expect(table()?.http.map((one) => [one.matches[0]?.headers.length, goesTo(one)])).toEqual([
      [1, 'missing'],
      [0, 'missing'],
    ]);
  });

  test.each([
    ['a field beside the rules', { newer: true, rules: [{ backendRefs }] }],
    ['rules that are no list', { rules: { backendRefs } }],
    [
      'more rules than there may be',
      { rules: Array.from({ length: 17 }, () => ({ backendRefs })) },
    ],
  ])('is closed as a whole for %s', (_what, spec) => {
    apply({ parentRefs: [web], ...spec });
    expect(new Set(table()?.http.map(goesTo))).toEqual(new Set(['missing']));
  });

  test('is closed whatever its kind is', () => {
    const rules = [{ backendRefs, newer: 1 }];
    apply({ parentRefs: [web], rules }, 'GRPCRoute');
    expect(table()?.http.map(goesTo)).toEqual(['missing']);
    apply({ parentRefs: [web], rules }, 'TCPRoute');
    expect(table()?.tcp[0]?.targets.map(({ target }) => target.kind)).toEqual(['missing']);
    apply({ parentRefs: [web], rules: [{ backendRefs }], hostnames: 'a.b' }, 'TLSRoute');
    expect(table()?.tls[0]?.targets.map(({ target }) => target.kind)).toEqual(['missing']);
    expect(table()?.tls[0]?.matches[0]?.sniHosts).toEqual([]);
  });

  test('leaves services alone that none of its parents names', () => {
    apply({ parentRefs: [web], rules: [{ newer: 1 }] });
    expect(table('other')).toBeUndefined();
    expect(apply({ parentRefs: 'web', rules: [] })).toEqual([]);
    expect(table()).toBeUndefined();
  });

  test('serves again once it is mended', () => {
    apply({ parentRefs: [web], rules: [{ backendRefs, newer: 1 }] });
    const [parent] = apply({ parentRefs: [web], rules: [{ backendRefs }] });
    expect(parent?.accepted.status).toBe(true);
    expect(table()?.http.map(goesTo)).toEqual(['service']);
  });

  test('tells with a true condition what has no effect', () => {
    const rules = [
      { name: 'one', backendRefs },
      { name: 'one', backendRefs },
    ];
    const spec = { parentRefs: [web], rules, hostnames: ['a.b'], useDefaultGateways: 'All' };
    const [parent] = apply(spec);
    expect(parent?.accepted).toMatchObject({ status: true, reason: 'Accepted' });
    for (const field of ['spec.hostnames', 'spec.useDefaultGateways', 'spec.rules[1].name'])
      expect(parent?.accepted.message).toContain(`${field}: `);
  });
});
