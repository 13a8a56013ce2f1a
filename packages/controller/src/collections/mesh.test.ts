import type { Upsert } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { aPod, trustDomain } from '../../test/support.ts';
import type { PodFacts } from '../../test/support.ts';
import { decodeEndpointSlice } from '../kube/decode/endpoint-slice.ts';
import { decodeNamespace } from '../kube/decode/namespace.ts';
import { decodeNode } from '../kube/decode/node.ts';
import { decodePod } from '../kube/decode/pod.ts';
import { decodeAuthorizationPolicy, decodePeerAuthentication } from '../kube/decode/policy.ts';
import { decodeService } from '../kube/decode/service.ts';
import { SnapshotState } from '../push/state.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

const cluster = {
  clusterId: 'Kubernetes',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};

class Cluster {
  readonly mesh: MeshCollections = createMeshCollections(cluster);
  readonly state = new SnapshotState(this.mesh.outputs);

  pod(facts: PodFacts): void {
    const pod = decoded(decodePod, aPod({ uid: `uid-${facts.name}`, ...facts }));
    this.mesh.sources.pods.set(`${pod.meta.namespace}/${pod.meta.name}`, pod);
  }

  service(name: string, spec: object = {}, namespace = 'shop'): void {
    const object = {
      metadata: { name, namespace },
      spec: {
        clusterIP: '10.96.0.1',
        clusterIPs: ['10.96.0.1'],
        ports: [{ name: 'http', port: 80 }],
        ...spec,
      },
    };
    this.mesh.sources.services.set(`${namespace}/${name}`, decoded(decodeService, object));
  }

  slice(
    name: string,
    service: string,
    pods: readonly (readonly [pod: string, ip: string, ready?: boolean])[],
  ): void {
    const object = {
      metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': service } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints: pods.map(([pod, ip, ready = true]) => ({
        addresses: [ip],
        conditions: { ready },
        targetRef: { kind: 'Pod', namespace: 'shop', name: pod, uid: `uid-${pod}` },
      })),
    };
    this.mesh.sources.endpointSlices.set(`shop/${name}`, decoded(decodeEndpointSlice, object));
  }

  policy(name: string, spec: object, namespace = 'shop'): void {
    const object = { metadata: { name, namespace }, spec };
    this.mesh.sources.policies.set(
      `${namespace}/${name}`,
      decoded(decodeAuthorizationPolicy, object),
    );
  }

  peerAuthentication(name: string, spec: object, namespace = 'shop', year = 2026): void {
    const creationTimestamp = `${year}-01-01T00:00:00Z`;
    const object = { metadata: { name, namespace, creationTimestamp }, spec };
    const record = decoded(decodePeerAuthentication, object);
    this.mesh.sources.peerAuthentications.set(`${namespace}/${name}`, record);
  }

  node(name: string, zone: string): void {
    const object = { metadata: { name, labels: { 'topology.kubernetes.io/zone': zone } } };
    this.mesh.sources.nodes.set(name, decoded(decodeNode, object));
  }

  /** What a flush costs: computed values by stage, and the names that are pushed. */
  flush(): { cost: Record<string, number>; pushed: string[] } {
    const before = this.mesh.recomputations();
    this.mesh.flush();
    const cost: Record<string, number> = {};
    for (const [stage, count] of this.mesh.recomputations()) {
      const more = count - (before.get(stage) ?? 0);
      if (more > 0) cost[stage] = more;
    }
    const pushed = [...this.state.takeChanged()].flatMap(([type, names]) =>
      [...names].map((name) => `${type} ${name}`),
    );
    return { cost, pushed };
  }

  workload(name: string): Extract<Upsert, { type: 'workload' }>['resource'] {
    const upsert = this.state.resource('workload', `Kubernetes//Pod/shop/${name}`);
    if (upsert?.type !== 'workload') throw new TypeError(`no workload ${name}`);
    return upsert.resource;
  }
}

describe('what a change costs', () => {
  let all: Cluster;
  const key = (name: string) => `workload Kubernetes//Pod/shop/${name}`;
  beforeEach(() => {
    all = new Cluster();
    all.node('node-a', 'z1');
    all.service('front');
    for (let index = 0; index < 100; index += 1) {
      all.pod({
        name: `p-${index}`,
        ip: `10.0.0.${index + 1}`,
        labels: { app: index % 2 === 0 ? 'even' : 'odd' },
      });
    }
    all.slice(
      'front-1',
      'front',
      Array.from({ length: 100 }, (_, index) => [`p-${index}`, `10.0.0.${index + 1}`] as const),
    );
    all.flush();
  });

  test('one pod: one workload', () => {
    all.pod({ name: 'p-7', ip: '10.0.0.8', labels: { app: 'odd' }, captured: true });
    expect(all.flush()).toEqual({
      cost: { 'pod-bindings': 1, workloads: 1 },
      pushed: [key('p-7')],
    });
  });
  test('a pod that says the same again: nothing is pushed', () => {
    all.pod({ name: 'p-7', ip: '10.0.0.8', labels: { app: 'odd' } });
    expect(all.flush()).toEqual({ cost: { 'pod-bindings': 1, workloads: 1 }, pushed: [] });
  });
  test('one endpoint of a slice of a hundred: one workload', () => {
    all.slice(
      'front-1',
      'front',
      Array.from(
        { length: 100 },
        (_, index) => [`p-${index}`, `10.0.0.${index + 1}`, index !== 9] as const,
      ),
    );
    expect(all.flush()).toEqual({ cost: { endpoints: 1, workloads: 1 }, pushed: [key('p-9')] });
    expect(all.workload('p-9').services[0]?.ready).toBe(false);
  });
  test("a node's heartbeat: nothing", () => {
    all.node('node-a', 'z1');
    expect(all.flush()).toEqual({ cost: { localities: 1 }, pushed: [] });
  });
  test("a node's new zone: its workloads", () => {
    all.node('node-a', 'z2');
    expect(all.flush().pushed).toHaveLength(100);
  });
  test('a new policy with a selector: whom it selects', () => {
    all.policy('p', { selector: { matchLabels: { app: 'even' } }, rules: [{}] });
    expect(all.flush().pushed).toHaveLength(51);
    expect(all.workload('p-0').policies).toEqual(['shop/p']);
    expect(all.workload('p-1').policies).toEqual([]);
  });
  test('its changed rules: the policy alone', () => {
    all.policy('p', { selector: { matchLabels: { app: 'even' } }, rules: [{}] });
    all.flush();
    all.policy('p', { selector: { matchLabels: { app: 'even' } }, rules: [] });
    expect(all.flush()).toEqual({
      cost: { 'judged-policy': 1, policies: 1, 'policy-selectors': 1 },
      pushed: ['policy shop/p'],
    });
  });
  test('a namespace-wide policy: the policy alone', () => {
    all.policy('p', { rules: [{}] });
    expect(all.flush().pushed).toEqual(['policy shop/p']);
  });
  test('a selector in the root namespace selects everywhere', () => {
    all.policy('p', { selector: { matchLabels: { app: 'even' } } }, 'istio-system');
    expect(all.flush().pushed).toHaveLength(51);
    expect(all.workload('p-0').policies).toEqual(['istio-system/p']);
  });
  test('a policy of another namespace: no workload of ours', () => {
    all.policy('p', { selector: { matchLabels: { app: 'even' } } }, 'other');
    expect(all.flush().cost['workloads']).toBeUndefined();
    expect(all.workload('p-0').policies).toEqual([]);
  });
  test('a PeerAuthentication on the workload: whom it selects is pushed', () => {
    all.peerAuthentication('p', {
      selector: { matchLabels: { app: 'even' } },
      mtls: { mode: 'STRICT' },
    });
    expect(all.flush().pushed).toHaveLength(50);
    expect(all.workload('p-0').mtls.mode).toBe('STRICT');
  });
  test('of PeerAuthentications of one level the oldest holds, and of one age the first by name', () => {
    const root = 'istio-system';
    const mode = (of: 'p-0' | 'p-1' = 'p-0'): string => {
      all.flush();
      return all.workload(of).mtls.mode;
    };
    const say = (name: string, of: string, year: number, namespace = 'shop'): void =>
      all.peerAuthentication(name, { mtls: { mode: of } }, namespace, year);
    say('b', 'STRICT', 2020, root);
    say('a', 'DISABLE', 2021, root);
    expect(mode()).toBe('STRICT');
    say('c', 'DISABLE', 2019, root);
    expect(mode()).toBe('DISABLE');
    say('b', 'STRICT', 2022);
    expect(mode()).toBe('STRICT');
    say('a', 'PERMISSIVE', 2022);
    expect(mode()).toBe('PERMISSIVE');
    say('c', 'DISABLE', 2021);
    expect(mode()).toBe('DISABLE');
    // What it says no more is not inherited from the next of its level.
    say('c', 'UNSET', 2021);
    all.mesh.sources.peerAuthentications.delete(`${root}/c`);
    expect(mode()).toBe('STRICT');
    const even = { selector: { matchLabels: { app: 'even' } } };
    all.peerAuthentication('z', { ...even, mtls: { mode: 'DISABLE' } }, 'shop', 2024);
    all.peerAuthentication('y', { ...even, mtls: { mode: 'PERMISSIVE' } }, 'shop', 2025);
    expect([mode(), mode('p-1')]).toEqual(['DISABLE', 'STRICT']);
    all.peerAuthentication('y', { ...even, mtls: { mode: 'PERMISSIVE' } }, 'shop', 2024);
    expect(mode()).toBe('PERMISSIVE');
    for (const name of ['y', 'z', 'a', 'b', 'c'])
      all.mesh.sources.peerAuthentications.delete(`shop/${name}`);
    expect([mode(), mode('p-1')]).toEqual(['STRICT', 'STRICT']);
  });
  test("a namespace's labels: nothing", () => {
    const namespace = {
      metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } },
    };
    all.mesh.sources.namespaces.set('shop', decoded(decodeNamespace, namespace));
    expect(all.flush().pushed).toEqual([]);
  });
  test("a namespace's traffic distribution: its services", () => {
    const annotations = { 'networking.istio.io/traffic-distribution': 'PreferClose' };
    const namespace = { metadata: { name: 'shop', annotations } };
    all.mesh.sources.namespaces.set('shop', decoded(decodeNamespace, namespace));
    expect(all.flush().pushed).toEqual(['service shop/front.shop.svc.cluster.local']);
  });
  test('a deleted service leaves its endpoints', () => {
    all.mesh.sources.services.delete('shop/front');
    expect(all.flush().pushed).toHaveLength(101);
    expect(all.workload('p-0').services).toEqual([]);
  });
  test('a pod that has ended is gone', () => {
    all.pod({ name: 'p-3', ip: '10.0.0.4', phase: 'Succeeded' });
    expect(all.flush().pushed).toEqual([key('p-3')]);
    expect(all.state.resource('workload', 'Kubernetes//Pod/shop/p-3')).toBeUndefined();
  });
  test('an endpoint of a pod that was replaced under its name does not count', () => {
    all.pod({ name: 'p-3', ip: '10.0.0.4', uid: 'another' });
    all.flush();
    expect(all.workload('p-3').services).toEqual([]);
  });
});

test('ten thousand pods and a thousand services compile in seconds', () => {
  const all = new Cluster();
  for (let index = 0; index < 50; index += 1) all.node(`n-${index}`, `z-${index % 3}`);
  for (let service = 0; service < 1000; service += 1) {
    all.service(`s-${service}`, { clusterIPs: [`10.96.${service >> 8}.${service & 255}`] });
    const pods: (readonly [string, string])[] = [];
    for (let index = 0; index < 10; index += 1) {
      const number = service * 10 + index;
      const ip = `10.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
      all.pod({
        name: `p-${number}`,
        ip,
        node: `n-${number % 50}`,
        labels: { app: `s-${service}` },
      });
      pods.push([`p-${number}`, ip]);
    }
    all.slice(`s-${service}-1`, `s-${service}`, pods);
  }
  for (let index = 0; index < 100; index += 1) {
    all.policy(`a-${index}`, { selector: { matchLabels: { app: `s-${index}` } }, rules: [{}] });
  }
  const startedAt = performance.now();
  const { pushed } = all.flush();
  const wholeMs = performance.now() - startedAt;
  expect(pushed).toHaveLength(11_100);
  const changedAt = performance.now();
  all.pod({ name: 'p-77', ip: '10.1.0.77', node: 'n-3', captured: true });
  const one = all.flush();
  const oneMs = performance.now() - changedAt;
  expect(one.cost).toEqual({ 'pod-bindings': 1, workloads: 1 });
  process.stdout.write(
    `compiled 10,000 pods and 1,000 services in ${wholeMs.toFixed(0)} ms, one change in ${oneMs.toFixed(2)} ms\n`,
  );
  expect(wholeMs).toBeLessThan(10_000);
}, 60_000);

describe('an EndpointSlice whose addresses are no pods', () => {
  const uid = (ip: string): string => `Kubernetes/discovery.k8s.io/EndpointSlice/shop/outer/${ip}`;
  const outer = (all: Cluster, ...ips: readonly string[]): void => {
    const object = {
      metadata: {
        name: 'outer',
        namespace: 'shop',
        labels: { 'kubernetes.io/service-name': 's-outer' },
      },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 6443 }],
      endpoints: ips.map((ip) => ({ addresses: [ip] })),
    };
    all.mesh.sources.endpointSlices.set('shop/outer', decoded(decodeEndpointSlice, object));
  };

  test('they are endpoints that nobody captures, as the API server is of the Service kubernetes', () => {
    const all = new Cluster();
    all.service('s-outer', { clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'] });
    outer(all, '10.77.0.1');
    all.flush();
    const upsert = all.state.resource('workload', uid('10.77.0.1'));
    expect(upsert?.resource).toMatchObject({
      addresses: ['10.77.0.1'],
      tunnel: 'none',
      services: [
        {
          service: 'shop/s-outer.shop.svc.cluster.local',
          ready: true,
          ports: [{ servicePort: 80, targetPort: 6443 }],
        },
      ],
    });
    outer(all);
    all.flush();
    expect(all.state.resource('workload', uid('10.77.0.1'))).toBeUndefined();
  });

  test('neither a pod nor the machine of whoever calls it becomes another workload', () => {
    const all = new Cluster();
    all.service('s-outer');
    all.pod({ name: 'inside', namespace: 'shop', ip: '10.244.1.9' });
    outer(all, '10.244.1.9', '127.0.0.1', '169.254.169.254');
    all.flush();
    for (const ip of ['10.244.1.9', '127.0.0.1', '169.254.169.254'])
      expect(all.state.resource('workload', uid(ip))).toBeUndefined();
    expect(all.workload('inside').services).toHaveLength(1);
  });
});
