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

test('a delegate says itself what is wrong with it, and that nobody names it', () => {
  const mesh = createMeshCollections({
    clusterId: 'Kubernetes',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  const set = (name: string, spec: object): void => {
    const object = { metadata: { name, namespace: 'shop' }, spec };
    mesh.sources.virtualServices.set(`shop/${name}`, decoded(decodeVirtualService, object));
  };
  const told = (name: string): readonly string[] => {
    mesh.flush();
    const problems = mesh.l7.virtualServices.get(`shop/${name}`)?.problems ?? [];
    return problems.map(
      ({ field, admissible }) => `${field}${admissible === true ? ' (warn)' : ''}`,
    );
  };
  const spec = { clusterIP: '10.96.0.7', clusterIPs: ['10.96.0.7'], ports: [{ port: 80 }] };
  const web = { metadata: { name: 'web', namespace: 'shop' }, spec };
  mesh.sources.services.set('shop/web', decoded(decodeService, web));
  const to = (host: string, weight = 100) => ({ destination: { host }, weight });
  set('good', { http: [{ route: [to('web')] }] });
  set('bad', {
    http: [
      { match: [{ headers: { x: { regex: '(' } } }], route: [to('web')] },
      { route: [to('nobody'), to('web')] },
      { route: [to('web', 0), to('web', 0)] },
      { delegate: { name: 'good' } },
    ],
    tcp: [],
  });
  const wrong = [
    'spec.tcp (warn)',
    'spec.http[0].match[0].headers[x].regex',
    'spec.http[1].route[0].destination.host (warn)',
    'spec.http[2].route',
    'spec.http[3].delegate (warn)',
  ];
  expect(told('good')).toEqual(['spec.hosts (warn)']);
  expect(told('bad')).toEqual(['spec.hosts (warn)', ...wrong]);
  const delegate = (name: string) => ({ delegate: { name } });
  set('root', { hosts: ['web'], http: [delegate('good'), delegate('bad')] });
  expect(told('good')).toEqual([]);
  expect(told('bad')).toEqual(wrong);
  mesh.sources.virtualServices.delete('shop/root');
  expect(told('good')).toEqual(['spec.hosts (warn)']);
});
