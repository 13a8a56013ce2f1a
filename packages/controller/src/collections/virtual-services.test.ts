import { expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeVirtualService } from '../kube/decode/configuration.ts';
import { decodeService } from '../kube/decode/service.ts';
import { SnapshotState } from '../push/state.ts';
import { createMeshCollections } from './mesh.ts';

test('a VirtualService with a wildcard routes services as they come, until one names them', () => {
  const mesh = createMeshCollections({
    clusterId: 'Kubernetes',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  const state = new SnapshotState(mesh.outputs);
  const routesOf = (name: string): readonly string[] => {
    mesh.flush();
    const upsert = state.resource('route', `shop/${name}.shop.svc.cluster.local`);
    return upsert?.type === 'route' ? upsert.resource.http.map((one) => one.name) : [];
  };
  const route = (name: string, ...hosts: string[]): void => {
    const spec = { hosts, http: [{ route: [{ destination: { host: 'web' } }] }] };
    const object = { metadata: { name, namespace: 'shop' }, spec };
    mesh.sources.virtualServices.set(`shop/${name}`, decoded(decodeVirtualService, object));
  };
  const service = (name: string, ip: string): void => {
    const spec = { clusterIP: ip, clusterIPs: [ip], ports: [{ port: 80 }] };
    const object = { metadata: { name, namespace: 'shop' }, spec };
    mesh.sources.services.set(`shop/${name}`, decoded(decodeService, object));
  };
  service('web', '10.96.0.7');
  expect(routesOf('web')).toEqual([]);
  route('all', '*.shop.svc.cluster.local');
  service('cart', '10.96.0.8');
  expect([routesOf('web'), routesOf('cart')]).toEqual([
    ['VirtualService/shop/all'],
    ['VirtualService/shop/all'],
  ]);
  route('own', 'cart');
  expect([routesOf('web'), routesOf('cart')]).toEqual([
    ['VirtualService/shop/all'],
    ['VirtualService/shop/own'],
  ]);
  mesh.sources.virtualServices.delete('shop/all');
  expect([routesOf('web'), routesOf('cart')]).toEqual([[], ['VirtualService/shop/own']]);
});
