import { expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeGateway, decodeHttpRoute, decodeTcpRoute } from '../kube/decode/configuration.ts';
import { createMeshCollections } from './mesh.ts';

test('routes are counted at the waypoint whose Gateway they name, as they come and go', () => {
  const mesh = createMeshCollections({
    clusterId: 'Kubernetes',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  const { sources } = mesh;
  const attached = (): number | undefined => {
    mesh.flush();
    return mesh.l7.attachedRoutes.get('shop/w')?.get('mesh');
  };
  const route = (name: string, parentRef: object, namespace = 'shop'): void => {
    const spec = { parentRefs: [parentRef], rules: [{}] };
    const object = { metadata: { name, namespace }, spec };
    sources.httpRoutes.set(`${namespace}/${name}`, decoded(decodeHttpRoute, object));
  };
  route('early', { name: 'w' });
  expect(attached()).toBeUndefined();
  const listeners = [{ name: 'mesh', port: 15008, protocol: 'HBONE' }];
  const gateway = {
    metadata: { name: 'w', namespace: 'shop' },
    spec: { gatewayClassName: 'istio-waypoint', listeners },
  };
  sources.gateways.set('shop/w', decoded(decodeGateway, gateway));
  expect(attached()).toBe(1);
  route('named', { name: 'w', sectionName: 'mesh' });
  expect(attached()).toBe(2);
  route('elsewhere', { name: 'w', sectionName: 'other' });
  route('stranger', { name: 'w', namespace: 'shop' }, 'strangers');
  route('of-service', { group: '', kind: 'Service', name: 'w' });
  const tcp = {
    metadata: { name: 't', namespace: 'shop' },
    spec: { parentRefs: [{ name: 'w' }], rules: [] },
  };
  sources.tcpRoutes.set('shop/t', decoded(decodeTcpRoute, tcp));
  expect(attached()).toBe(2);
  sources.httpRoutes.delete('shop/early');
  expect(attached()).toBe(1);
});
