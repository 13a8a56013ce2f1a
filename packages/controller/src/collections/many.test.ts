import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { aPod, trustDomain } from '../../test/support.ts';
import { decode } from '../kube/decode/index.ts';
import { SnapshotState } from '../push/state.ts';
import type { Collection } from './collection.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

/** Beside how many of its kind one changes. */
const many = 200;
const host = 'web.shop.svc.cluster.local';

describe('a change beside very many costs no more than beside few', () => {
  let mesh: MeshCollections;
  let state: SnapshotState;

  beforeEach(() => {
    mesh = createMeshCollections({
      clusterId: 'Kubernetes',
      trustDomain: trustDomain(),
      rootNamespace: 'istio-system',
      clusterDomain: 'cluster.local',
    });
    state = new SnapshotState(mesh.outputs);
    const spec = { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], ports: [{ port: 80 }] };
    put('services', decode.service, { metadata: meta('web', 0), spec });
    for (let index = 0; index < many; index += 1) pod(index);
  });

  function pod(index: number): void {
    const facts = { name: `p-${index}`, ip: `10.0.0.${index}`, labels: { app: `app-${index}` } };
    put('pods', decode.pod, aPod({ uid: facts.name, ...facts }));
  }

  function meta(name: string, index: number) {
    const creationTimestamp = new Date(Date.UTC(2026) + index * 1000).toISOString();
    return { name, namespace: 'shop', creationTimestamp };
  }

  function put(source: keyof MeshCollections['sources'], decodeOne: unknown, object: object): void {
    const record = decoded(decodeOne as typeof decode.pod, object);
    const { namespace, name } = record.meta;
    (mesh.sources[source] as Collection<unknown>).set(`${namespace}/${name}`, record);
  }

  /** How many values a flush computes, and what is pushed. */
  function flush(): { computed: number; pushed: number } {
    const sum = () => [...mesh.recomputations().values()].reduce((all, one) => all + one, 0);
    const before = sum();
    mesh.flush();
    const pushed = [...state.takeChanged().values()].reduce((all, { size }) => all + size, 0);
    return { computed: sum() - before, pushed };
  }

  type Spec = (index: number, again: boolean) => object;
  type Kind = readonly [keyof MeshCollections['sources'], unknown, Spec];
  const mtls = (again: boolean) => ({ mode: again ? 'STRICT' : 'PERMISSIVE' });
  const selector = (index: number) => ({ matchLabels: { app: `app-${index}` } });
  const entry = (name: string, again: boolean) => ({
    hosts: [name],
    ports: [{ number: again ? 443 : 444, name: 'tls', protocol: 'TLS' }],
    resolution: 'DNS',
  });
  const backendRefs = [{ name: 'api', namespace: 'far', port: 80 }];

  // Each with the values that are computed anew, and the resources that are pushed, for the oldest and for the newest.
  test.each<[string, Kind, readonly [number, number], readonly [number, number]]>([
    [
      'DestinationRules of one host',
      [
        'destinationRules',
        decode.destinationRule,
        (index, again) => ({
          host,
          trafficPolicy: { connectionPool: { tcp: { maxConnections: again ? 1 : 2 } } },
          subsets: [{ name: `v${index % 2}` }],
        }),
      ],
      [3, 1],
      [3, 0],
    ],
    [
      'VirtualServices, each of a wildcard',
      [
        'virtualServices',
        decode.virtualService,
        (index, again) => ({
          hosts: [`*-${index}.shop.svc.cluster.local`],
          http: [{ timeout: again ? '1s' : '2s', route: [{ destination: { host } }] }],
        }),
      ],
      [1, 0],
      [1, 0],
    ],
    [
      'AuthorizationPolicies that select',
      [
        'policies',
        decode.authorizationPolicy,
        (index, again) => ({ selector: selector(index), rules: again ? [{}] : [] }),
      ],
      [3, 1],
      [3, 1],
    ],
    [
      'PeerAuthentications that select',
      [
        'peerAuthentications',
        decode.peerAuthentication,
        (index, again) => ({ selector: selector(index), mtls: mtls(again) }),
      ],
      [3, 1],
      [3, 1],
    ],
    [
      'PeerAuthentications for the namespace',
      [
        'peerAuthentications',
        decode.peerAuthentication,
        (_index, again) => ({ mtls: mtls(again) }),
      ],
      [2 + many, many],
      [2, 0],
    ],
    [
      'Telemetries for the namespace',
      [
        'telemetries',
        decode.telemetry,
        (_index, again) => ({ accessLogging: [{ disabled: again }] }),
      ],
      [2, 1],
      [2, 0],
    ],
    [
      'ServiceEntries of one host',
      ['serviceEntries', decode.serviceEntry, (_index, again) => entry('api.example.com', again)],
      [4, 2],
      [4, 0],
    ],
    [
      'ServiceEntries that select',
      [
        'serviceEntries',
        decode.serviceEntry,
        (index, again) => ({
          ...entry(`host-${index}.example.com`, again),
          resolution: 'STATIC',
          workloadSelector: { labels: { app: `app-${index}` } },
        }),
      ],
      [5, 2],
      [5, 2],
    ],
  ])('%s', (_name, [source, decodeOne, spec], oldest, newest) => {
    const one = (index: number, again: boolean): void =>
      put(source, decodeOne, { metadata: meta(`o-${index}`, index), spec: spec(index, again) });
    for (let index = 0; index < many; index += 1) one(index, false);
    flush();
    one(0, true);
    expect(flush()).toEqual({ computed: oldest[0], pushed: oldest[1] });
    one(many - 1, true);
    expect(flush()).toEqual({ computed: newest[0], pushed: newest[1] });
    // Nor does a pod see them all.
    pod(many - 1);
    expect(flush()).toEqual({ computed: 2, pushed: 0 });
  });

  test('DestinationRules beside VirtualServices of their subsets', () => {
    const rule = (index: number, maxConnections: number): void => {
      const trafficPolicy = { connectionPool: { tcp: { maxConnections } } };
      const spec = { host, trafficPolicy, subsets: [{ name: `v${index % 2}` }] };
      const object = { metadata: meta(`d-${index}`, index), spec };
      put('destinationRules', decode.destinationRule, object);
    };
    for (let index = 0; index < many; index += 1) {
      rule(index, 1);
      const http = [{ route: [{ destination: { host, subset: `v${index % 2}` } }] }];
      const object = { metadata: meta(`v-${index}`, index), spec: { hosts: [host], http } };
      put('virtualServices', decode.virtualService, object);
    }
    flush();
    rule(0, 2);
    expect(flush()).toEqual({ computed: 3, pushed: 1 });
    rule(many - 1, 2);
    expect(flush()).toEqual({ computed: 3, pushed: 0 });
  });

  test('ReferenceGrants that allow the same, beside routes', () => {
    const from = [{ group: 'gateway.networking.k8s.io', kind: 'HTTPRoute', namespace: 'shop' }];
    const grant = (index: number, name?: string): void => {
      const metadata = { ...meta(`g-${index}`, index), namespace: 'far' };
      const to = [{ group: '', kind: 'Service', ...(name !== undefined && { name }) }];
      const object = { metadata, spec: { from, to } };
      put('referenceGrants', decode.referenceGrant, object);
    };
    const service = { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.2'], ports: [{ port: 80 }] };
    const metadata = { name: 'api', namespace: 'far' };
    put('services', decode.service, { metadata, spec: service });
    const parentRefs = [{ group: '', kind: 'Service', name: 'web' }];
    for (let index = 0; index < many; index += 1) {
      const spec = { parentRefs, rules: [{ backendRefs }] };
      put('httpRoutes', decode.httpRoute, { metadata: meta(`r-${index}`, index), spec });
    }
    const isRefused = (): boolean =>
      JSON.stringify(mesh.l7.gatewayRoutes.HTTPRoute.get('shop/r-0')).includes('ReferenceGrant');
    flush();
    expect(isRefused()).toBe(true);
    for (let index = 0; index < many; index += 1) grant(index);
    expect([flush().computed, isRefused()]).toEqual([many, false]);
    grant(many);
    grant(many - 1, 'else');
    expect(flush().computed).toBe(0);
    for (let index = 0; index <= many; index += 1)
      if (index !== 7) mesh.sources.referenceGrants.delete(`far/g-${index}`);
    flush();
    expect(isRefused()).toBe(false);
    grant(7, 'else');
    flush();
    expect(isRefused()).toBe(true);
    grant(7, 'api');
    flush();
    expect(isRefused()).toBe(false);
  });
});
