import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeDestinationRule, decodeVirtualService } from '../kube/decode/configuration.ts';
import { decodeService } from '../kube/decode/service.ts';
import { SnapshotState } from '../push/state.ts';
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
    service();
  });

  /** The service, bound to a waypoint of the namespace that is named. */
  function service(waypoint?: string): void {
    const labels =
      waypoint === undefined
        ? {}
        : { 'istio.io/use-waypoint': 'w', 'istio.io/use-waypoint-namespace': waypoint };
    const metadata = { name: 'web', namespace: 'shop', labels };
    const spec = { clusterIP: '10.96.0.7', clusterIPs: ['10.96.0.7'], ports: [{ port: 80 }] };
    mesh.sources.services.set('shop/web', decoded(decodeService, { metadata, spec }));
  }

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

  test('of a host that is not there, until it is', () => {
    rule('shop/a', 2024, { trafficPolicy });
    expect(told('shop/a')).toEqual([]);
    mesh.sources.services.delete('shop/web');
    expect(told('shop/a')).toEqual([
      `DestinationRule shop/a spec.host: "${host}" is no Service of this cluster and no host of a ServiceEntry`,
    ]);
  });

  test('one that says nothing is told, unless it takes the place of another', () => {
    const idle =
      'DestinationRule shop/a spec.trafficPolicy: is empty, and there are no subsets: the rule changes nothing; add one of the two';
    for (const spec of [{}, { trafficPolicy: {} }, { subsets: [] }]) {
      rule('shop/a', 2024, spec);
      expect(told('shop/a')).toEqual([idle]);
    }
    rule('istio-system/else', 2024, { host: '*.other.svc.cluster.local', trafficPolicy });
    expect(told('shop/a')).toEqual([idle]);
    rule('istio-system/all', 2024, { host: '*.local', trafficPolicy });
    expect(told('shop/a')).toEqual([]);
    mesh.sources.destinationRules.delete('istio-system/all');
    expect(told('shop/a')).toEqual([idle]);
    rule('shop/a', 2024, { subsets: [{ name: 'v1' }] });
    expect(told('shop/a')).toEqual([]);
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

  test('a wildcard that is not used says so', () => {
    rule('shop/a', 2024, { host: '*.shop.svc.cluster.local', trafficPolicy });
    rule('shop/b', 2025, { host: '*.shop.svc.cluster.local', trafficPolicy });
    rule('shop/c', 2026, { host: '*', trafficPolicy });
    rule('other/a', 2024, { host: '*.shop.svc.cluster.local', trafficPolicy });
    rule('istio-system/a', 2024, { host: '*.shop.svc.cluster.local', trafficPolicy });
    expect(['shop/a', 'shop/c', 'istio-system/a'].flatMap(told)).toEqual([]);
    expect(told('shop/b')[0]).toContain('shop/a of the same host is older');
    expect(told('other/a')).toEqual([
      'DestinationRule other/a spec.host: has no effect on services of namespace shop; put the rule there',
    ]);
  });

  test('one of the root namespace tells of a wildcard of the owner that holds instead', () => {
    rule('istio-system/a', 2024, { trafficPolicy });
    rule('shop/all', 2025, { host: '*.local', trafficPolicy });
    expect(told('istio-system/a')[0]).toContain('DestinationRule shop/all of the namespace');
  });

  describe('and what they are exported to', () => {
    let state: SnapshotState;

    beforeEach(() => {
      state = new SnapshotState(mesh.outputs);
      service();
    });

    /** How the service's endpoints are chosen from. */
    function balancing(): string | undefined {
      mesh.flush();
      const upsert = state.resource('cluster', 'shop/web.shop.svc.cluster.local');
      return upsert?.type === 'cluster' ? upsert.resource.policy.balancing.kind : undefined;
    }

    test.each([
      [undefined, undefined, 'random'],
      [[], undefined, 'random'],
      [['*'], 'infra', 'random'],
      [['.'], undefined, 'random'],
      [['.'], 'shop', 'random'],
      [['shop'], 'shop', 'random'],
      [['.'], 'infra', undefined],
      [['infra'], 'infra', 'random'],
      [['.', 'infra'], 'infra', 'random'],
      [['infra'], undefined, undefined],
      [['other'], 'shop', undefined],
    ])('the rule of the owner to %j, waypoint in %s: %s', (exportTo, waypoint, expected) => {
      service(waypoint);
      rule('shop/a', 2024, { trafficPolicy, ...(exportTo && { exportTo }) });
      expect(balancing()).toBe(expected);
      expect(told('shop/a')).toHaveLength(expected === undefined ? 1 : 0);
    });

    test('a wildcard holds where none names the service, the longest of them, and of the owner first', () => {
      const random = { trafficPolicy };
      const robin = { trafficPolicy: { loadBalancer: { simple: 'ROUND_ROBIN' } } };
      const least = { trafficPolicy: { loadBalancer: { simple: 'LEAST_REQUEST' } } };
      rule('istio-system/mesh', 2024, { host: '*.local', ...random });
      expect(balancing()).toBe('random');
      rule('other/a', 2024, { host: '*.local', ...least });
      rule('shop/else', 2024, { host: '*.cart.svc.cluster.local', ...least });
      expect(balancing()).toBe('random');
      rule('istio-system/longer', 2026, { host: '*.shop.svc.cluster.local', ...least });
      expect(balancing()).toBe('least-request');
      rule('shop/all', 2026, { host: '*', ...robin });
      expect(balancing()).toBe('round-robin');
      rule('shop/all', 2026, { host: '*', ...robin, exportTo: ['elsewhere'] });
      expect(balancing()).toBe('least-request');
      rule('shop/web', 2026, random);
      expect(balancing()).toBe('random');
    });

    test('one of the root namespace is for whom it names, and for itself with a dot', () => {
      rule('istio-system/a', 2024, { trafficPolicy, exportTo: ['.'] });
      expect(balancing()).toBeUndefined();
      expect(told('istio-system/a')).toEqual([
        'DestinationRule istio-system/a spec.exportTo: has no effect without namespace shop, that of the service; add it',
      ]);
      service('istio-system');
      expect([balancing(), told('istio-system/a')]).toEqual(['random', []]);
      service('shop');
      rule('istio-system/a', 2024, { trafficPolicy, exportTo: ['shop'] });
      expect([balancing(), told('istio-system/a')]).toEqual(['random', []]);
    });

    test('of wildcards those are rivals that all of its clients may use', () => {
      const all = { host: '*.local', trafficPolicy, subsets: [{ name: 'v1' }] };
      const rivalsOf = (key: string): readonly (string | undefined)[] =>
        told(key).map((one) => /DestinationRule (shop\/.)[ ,]/.exec(one.slice(25))?.[1]);
      rule('shop/a', 2020, { ...all, exportTo: ['bank'] });
      rule('shop/b', 2021, { ...all, exportTo: ['bank', 'shop'] });
      rule('shop/c', 2022, { ...all, exportTo: ['shop', 'bank'] });
      rule('shop/d', 2023, { ...all, exportTo: ['shop'] });
      rule('shop/e', 2024, all);
      const keys = ['shop/a', 'shop/b', 'shop/c', 'shop/d', 'shop/e'];
      expect(keys.map(rivalsOf)).toEqual([[], [], ['shop/b', 'shop/b'], ['shop/b', 'shop/b'], []]);
      rule('shop/e', 2019, all);
      expect(keys.map(rivalsOf)).toEqual([
        ['shop/e', 'shop/e'],
        ['shop/e', 'shop/e'],
        ['shop/e', 'shop/e'],
        ['shop/e', 'shop/e'],
        [],
      ]);
      rule('shop/e', 2019, { ...all, subsets: [] });
      mesh.sources.destinationRules.delete('shop/b');
      expect(keys.map(rivalsOf)).toEqual([['shop/e'], [], ['shop/e'], ['shop/e', 'shop/c'], []]);
    });

    test('a route knows the subsets of the rules that hold, and no others', () => {
      const hosts = ['web'];
      const http = [{ route: [{ destination: { host: 'web', subset: 'v1' } }] }];
      const object = { metadata: { name: 'r', namespace: 'shop' }, spec: { hosts, http } };
      mesh.sources.virtualServices.set('shop/r', decoded(decodeVirtualService, object));
      const isKnown = (): boolean => {
        mesh.flush();
        const { problems = [] } = mesh.l7.virtualServices.get('shop/r') ?? {};
        return problems.every(({ message }) => !message.includes('defines subset "v1"'));
      };
      const v1 = { subsets: [{ name: 'v1' }] };
      expect(isKnown()).toBe(false);
      rule('other/a', 2020, v1);
      expect(isKnown()).toBe(false);
      rule('istio-system/all', 2024, { host: '*.local', ...v1 });
      expect(isKnown()).toBe(true);
      rule('istio-system/web', 2024, { trafficPolicy });
      expect(isKnown()).toBe(false);
      rule('istio-system/later', 2025, v1);
      expect(isKnown()).toBe(true);
      rule('shop/all', 2026, { host: '*', trafficPolicy });
      expect(isKnown()).toBe(false);
      rule('shop/all', 2026, { host: '*', ...v1 });
      expect(isKnown()).toBe(true);
      rule('shop/all', 2026, { host: '*', ...v1, exportTo: ['infra'] });
      rule('shop/web', 2026, { trafficPolicy });
      expect(isKnown()).toBe(false);
      rule('shop/later', 2026, { ...v1, exportTo: ['infra'] });
      expect(isKnown()).toBe(false);
      service('infra');
      expect(isKnown()).toBe(true);
      mesh.sources.destinationRules.delete('shop/later');
      expect(isKnown()).toBe(false);
    });

    test('of those that define a subset the oldest is named that the waypoint may use', () => {
      const v1 = { subsets: [{ name: 'v1' }] };
      rule('shop/d', 2025, { ...v1, trafficPolicy });
      rule('shop/c', 2024, { ...v1, trafficPolicy });
      rule('shop/b', 2023, { ...v1, exportTo: ['elsewhere'] });
      rule('shop/a', 2024, { ...v1, exportTo: ['shop'] });
      rule('other/a', 2020, { ...v1, trafficPolicy });
      expect(told('shop/d').map((one) => one.slice(23))).toEqual([
        'spec.trafficPolicy: is not used, DestinationRule shop/c of the same host is older; merge them',
        'spec.subsets[0].name: subset v1 is already defined by DestinationRule shop/a, which is older; rename or remove it',
      ]);
      expect(told('shop/a')).toEqual([]);
      expect(told('shop/c')[0]).toContain('shop/a, which is as old and comes first by name');
      mesh.sources.destinationRules.delete('shop/a');
      expect(told('shop/c')).toEqual([]);
    });

    test('one that its waypoint may not use is no rival of those that it may', () => {
      service('infra');
      const robin = { loadBalancer: { simple: 'ROUND_ROBIN' } };
      rule('shop/a', 2024, { trafficPolicy: robin, exportTo: ['.'] });
      rule('istio-system/a', 2025, { trafficPolicy });
      expect([balancing(), told('istio-system/a')]).toEqual(['random', []]);
      expect(told('shop/a')).toEqual([
        'DestinationRule shop/a spec.exportTo: has no effect without namespace infra, that of the waypoint of the service; add it',
      ]);
      rule('shop/b', 2026, { trafficPolicy });
      expect([balancing(), told('shop/b')]).toEqual(['random', []]);
      service('shop');
      expect(balancing()).toBe('round-robin');
      expect(told('shop/b')[0]).toContain('shop/a of the same host is older');
    });

    test('one of a stranger stays without effect whatever it is exported to', () => {
      rule('other/a', 2024, { trafficPolicy, exportTo: ['shop'] });
      expect(balancing()).toBeUndefined();
      expect(told('other/a')[0]).toContain('put the rule there');
    });

    test.each(['~', 'A b', ''])('to %j is told, and leaves nobody out', (name) => {
      rule('shop/a', 2024, { trafficPolicy, exportTo: [name] });
      expect([balancing(), told('shop/a')]).toEqual([
        'random',
        [
          'DestinationRule shop/a spec.exportTo[0]: must be *, . or the name of a namespace; until then the rule is exported to all',
        ],
      ]);
    });
  });
});
