import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeDestinationRule } from '../kube/decode/configuration.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

describe('DestinationRules of one host', () => {
  const host = 'web.shop.svc.cluster.local';
  const trafficPolicy = { loadBalancer: { simple: 'RANDOM' } };
  let mesh: MeshCollections;

  beforeEach(() => {
    mesh = createMeshCollections({
      clusterId: 'Kubernetes',
      trustDomain: trustDomain(),
      rootNamespace: 'istio-system',
      clusterDomain: 'cluster.local',
    });
  });

  /** Made in the year that is given, so that ages are plain to see. */
  function rule(key: string, year: number, spec: object): void {
    const [namespace = '', name = ''] = key.split('/');
    const metadata = { name, namespace, creationTimestamp: `${year}-01-01T00:00:00Z` };
    const object = { metadata, spec: { host, ...spec } };
    mesh.sources.destinationRules.set(key, decoded(decodeDestinationRule, object));
  }

  function told(key: string): readonly string[] {
    mesh.flush();
    const { problems = [] } = mesh.l7.destinationRules.get(key) ?? {};
    return problems.map((one) => `${one.object} ${one.field}: ${one.message}`);
  }

  test('the newer one says what of it is not used, until the older one is gone', () => {
    rule('shop/b', 2024, { trafficPolicy, subsets: [{ name: 'a' }] });
    rule('shop/a', 2025, { trafficPolicy, subsets: [{ name: 'c' }, { name: 'a' }] });
    expect(told('shop/b')).toEqual([]);
    expect(told('shop/a')).toEqual([
      'DestinationRule shop/a spec.trafficPolicy: is not used, DestinationRule shop/b of the same host is older; merge them',
      'DestinationRule shop/a spec.subsets[1].name: subset a is already defined by DestinationRule shop/b, which is older; rename or remove it',
    ]);
    mesh.sources.destinationRules.delete('shop/b');
    expect(told('shop/a')).toEqual([]);
  });

  test('of one age the name decides', () => {
    rule('shop/a', 2024, { trafficPolicy });
    rule('shop/b', 2024, { trafficPolicy });
    expect(told('shop/a')).toEqual([]);
    expect(told('shop/b')[0]).toContain('shop/a of the same host is as old and comes first');
  });

  test('that complete each other are fine', () => {
    rule('shop/a', 2024, { subsets: [{ name: 'a' }] });
    rule('shop/b', 2025, { trafficPolicy, subsets: [{ name: 'b' }] });
    rule('shop/c', 2026, { subsets: [{ name: 'c' }] });
    expect([told('shop/a'), told('shop/b'), told('shop/c')]).toEqual([[], [], []]);
  });

  test('of another namespace than the service has no effect, and says so', () => {
    rule('shop/a', 2025, { trafficPolicy });
    rule('other/a', 2024, { trafficPolicy });
    expect(told('shop/a')).toEqual([]);
    expect(told('other/a')).toEqual([
      'DestinationRule other/a spec.host: has no effect on a service of namespace shop; put the rule there',
    ]);
  });

  test('of the root namespace is told once the owner has a rule of its own', () => {
    rule('istio-system/a', 2024, { trafficPolicy });
    rule('istio-system/b', 2025, { trafficPolicy });
    expect(told('istio-system/a')).toEqual([]);
    expect(told('istio-system/b')[0]).toContain('istio-system/a of the same host is older');
    rule('shop/a', 2026, { subsets: [{ name: 'a' }] });
    const hidden =
      'spec.host: has no effect, DestinationRule shop/a of the namespace of the service holds instead; merge them';
    expect(told('istio-system/a')).toEqual([`DestinationRule istio-system/a ${hidden}`]);
    expect(told('istio-system/b')).toEqual([`DestinationRule istio-system/b ${hidden}`]);
    expect(told('shop/a')).toEqual([]);
  });
});
