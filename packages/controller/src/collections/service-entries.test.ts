import type { RouteTable, Service, Workload } from '@ambit/api';
import { hbonePort } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { aPod, trustDomain } from '../../test/support.ts';
import {
  decodeDestinationRule,
  decodeGateway,
  decodeHttpRoute,
  decodeServiceEntry,
  decodeVirtualService,
  decodeWorkloadEntry,
} from '../kube/decode/configuration.ts';
import { decodeNamespace } from '../kube/decode/namespace.ts';
import { decodePod } from '../kube/decode/pod.ts';
import { decodeAuthorizationPolicy } from '../kube/decode/policy.ts';
import { decodeService } from '../kube/decode/service.ts';
import { SnapshotState } from '../push/state.ts';
import { entryConditions } from '../status/entries.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';

class Cluster {
  readonly mesh: MeshCollections = createMeshCollections({
    clusterId: 'Kubernetes',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  readonly state = new SnapshotState(this.mesh.outputs);
  #age = 0;

  #object(name: string, spec: object, namespace: string, labels: object = {}): object {
    this.#age += 1;
    const creationTimestamp = new Date(this.#age * 1000).toISOString();
    return { metadata: { name, namespace, creationTimestamp, labels }, spec };
  }

  entry(name: string, spec: object, namespace = 'shop', labels: object = {}): void {
    const written = { ports: [{ number: 80, name: 'http', protocol: 'HTTP' }], ...spec };
    const object = this.#object(name, written, namespace, labels);
    this.mesh.sources.serviceEntries.set(
      `${namespace}/${name}`,
      decoded(decodeServiceEntry, object),
    );
  }

  workloadEntry(name: string, spec: object, namespace = 'shop', labels: object = {}): void {
    const object = this.#object(name, spec, namespace, labels);
    this.mesh.sources.workloadEntries.set(
      `${namespace}/${name}`,
      decoded(decodeWorkloadEntry, object),
    );
  }

  service(name: string, namespace: string, ip: string): void {
    const spec = { clusterIP: ip, clusterIPs: [ip], ports: [{ name: 'http', port: 80 }] };
    const object = this.#object(name, spec, namespace);
    this.mesh.sources.services.set(`${namespace}/${name}`, decoded(decodeService, object));
  }

  pod(name: string, ip: string, labels: Readonly<Record<string, string>> = {}): void {
    const pod = decoded(decodePod, aPod({ name, ip, labels, captured: true }));
    this.mesh.sources.pods.set(`shop/${name}`, { ...pod, ready: true });
  }

  namespace(name: string, labels: object = {}): void {
    this.mesh.sources.namespaces.set(
      name,
      decoded(decodeNamespace, { metadata: { name, labels } }),
    );
  }

  waypoint(namespace: string, labels: object = {}, allowedRoutes?: object): void {
    const listener = { name: 'mesh', port: hbonePort, protocol: 'HBONE', allowedRoutes };
    const spec = { gatewayClassName: 'istio-waypoint', listeners: [listener] };
    const object = this.#object('waypoint', spec, namespace, labels);
    this.mesh.sources.gateways.set(`${namespace}/waypoint`, decoded(decodeGateway, object));
    const gatewayUid = this.mesh.sources.gateways.get(`${namespace}/waypoint`)?.meta.uid ?? '';
    this.mesh.sources.gatewayAccounts.set(`${namespace}/waypoint`, {
      gatewayUid,
      createdAtMs: 1,
    });
  }

  of(key: string): Service | undefined {
    this.mesh.flush();
    const upsert = this.state.resource('service', key);
    return upsert?.type === 'service' ? upsert.resource : undefined;
  }

  workloads(): Workload[] {
    this.mesh.flush();
    return [...this.state.all('workload').values()].flatMap((one) =>
      one.type === 'workload' ? [one.resource] : [],
    );
  }

  routes(key: string): RouteTable | undefined {
    this.mesh.flush();
    const upsert = this.state.resource('route', key);
    return upsert?.type === 'route' ? upsert.resource : undefined;
  }

  /** Conditions of a ServiceEntry as `type=status: message`. */
  told(key: string): string {
    this.mesh.flush();
    const resolved = this.mesh.l7.entries.resolved.get(key);
    return resolved === undefined
      ? ''
      : entryConditions(resolved, this.mesh.l7.entryRequirements.get(key))
          .map(({ type, status, message }) => `${type}=${status}: ${message}`)
          .join('\n');
  }
}

let all: Cluster;
beforeEach(() => {
  all = new Cluster();
});

const fixed = {
  hosts: ['api.example.com'],
  addresses: ['192.0.2.10'],
  resolution: 'STATIC',
  endpoints: [{ address: '198.51.100.1', ports: { http: 8080 }, labels: { version: 'v1' } }],
};

describe('a ServiceEntry becomes services and workloads', () => {
  test('STATIC: a service with its address, and a plain workload for each endpoint', () => {
    all.entry('api', fixed);
    expect(all.of('shop/api.example.com')).toMatchObject({
      name: 'api.example.com',
      vips: ['192.0.2.10'],
      ports: [{ name: 'http', port: 80, appProtocol: 'http' }],
      entry: { name: 'api', location: 'external', resolution: 'static' },
    });
    expect(all.workloads()).toMatchObject([
      {
        uid: 'Kubernetes/networking.istio.io/ServiceEntry/shop/api/198.51.100.1',
        addresses: ['198.51.100.1'],
        tunnel: 'none',
        labels: [['version', 'v1']],
        services: [
          { service: 'shop/api.example.com', ports: [{ servicePort: 80, targetPort: 8080 }] },
        ],
      },
    ]);
    expect(all.told('shop/api')).toBe('Accepted=True: known to the mesh');
  });

  test('several hosts give several services, and the address is the first one’s', () => {
    all.entry('api', { ...fixed, hosts: ['a.example.com', 'b.example.com'] });
    expect(all.of('shop/a.example.com')?.vips).toEqual(['192.0.2.10']);
    expect(all.of('shop/b.example.com')?.vips).toEqual([]);
    expect(all.workloads()[0]?.services).toHaveLength(2);
    expect(all.told('shop/api')).toContain("the addresses are a.example.com's");
  });

  test('DNS without endpoints: the host stands for them', () => {
    all.entry('api', { hosts: ['api.example.com'], resolution: 'DNS' });
    expect(all.workloads()).toMatchObject([{ addresses: [], hostname: 'api.example.com' }]);
  });

  test('DNS: its address is taken only where a waypoint resolves the name', () => {
    const spec = { hosts: ['api.example.com'], addresses: ['192.0.2.10'], resolution: 'DNS' };
    all.entry('api', spec);
    expect(all.of('shop/api.example.com')?.vips).toEqual([]);
    expect(all.told('shop/api')).toContain('bind it to one');
    all.waypoint('shop');
    all.entry('api', spec, 'shop', { 'istio.io/use-waypoint': 'waypoint' });
    expect(all.of('shop/api.example.com')).toMatchObject({
      vips: ['192.0.2.10'],
      waypoint: { service: 'shop/waypoint.shop.svc.cluster.local' },
    });
    expect(all.told('shop/api')).toContain('istio.io/WaypointBound=True');
  });

  test('without addresses it says that it cannot be captured', () => {
    all.entry('api', { ...fixed, addresses: [] });
    expect(all.told('shop/api')).toContain('ambit.dev/NotCaptured=True: spec.addresses');
  });

  test('a selector takes WorkloadEntries and ready pods of its namespace', () => {
    all.entry('api', { ...fixed, endpoints: [], workloadSelector: { labels: { app: 'db' } } });
    all.workloadEntry('vm', {
      address: '198.51.100.7',
      labels: { app: 'db' },
      ports: { http: 9 },
      serviceAccount: 'vm',
    });
    all.workloadEntry('other', { address: '198.51.100.8', labels: { app: 'else' } });
    all.workloadEntry('abroad', { address: '198.51.100.9', labels: { app: 'db' } }, 'abroad');
    all.pod('db-1', '10.0.0.1', { app: 'db' });
    const members = all
      .workloads()
      .filter(({ services }) => services.some(({ service }) => service === 'shop/api.example.com'))
      .map(({ name, services }) => [name, services[0]?.ports[0]?.targetPort]);
    expect(new Map(members as [string, number][])).toEqual(
      new Map([
        ['vm', 9],
        ['db-1', 80],
      ]),
    );
  });

  test('an endpoint with the address of a pod is that pod', () => {
    all.pod('db-1', '10.0.0.1');
    all.entry('api', { ...fixed, endpoints: [{ address: '10.0.0.1' }] });
    expect(all.workloads()).toMatchObject([
      { name: 'db-1', tunnel: 'hbone', services: [{ service: 'shop/api.example.com' }] },
    ]);
  });

  test('weights of endpoints, written in it or of WorkloadEntries, also where they are pods', () => {
    all.pod('db-1', '10.0.0.1');
    all.entry('api', {
      ...fixed,
      endpoints: [
        { address: '198.51.100.1', weight: 3 },
        { address: '198.51.100.2', weight: 0 },
        { address: '10.0.0.1', weight: 7 },
      ],
    });
    all.entry('vms', {
      ...fixed,
      hosts: ['vms.example.com'],
      addresses: ['192.0.2.11'],
      endpoints: [],
      workloadSelector: { labels: { app: 'vm' } },
    });
    all.workloadEntry('vm', { address: '198.51.100.3', labels: { app: 'vm' }, weight: 5 });
    const weights = all
      .workloads()
      .map(({ addresses, services }) => [addresses[0], services[0]?.weight] as const);
    expect(new Map(weights)).toEqual(
      new Map([
        ['198.51.100.1', 3],
        ['198.51.100.2', undefined],
        ['10.0.0.1', 7],
        ['198.51.100.3', 5],
      ]),
    );
    expect(all.told('shop/api')).toContain('Accepted=True');
  });

  test('what goes away is gone', () => {
    all.entry('api', fixed);
    expect(all.of('shop/api.example.com')).toBeDefined();
    all.mesh.sources.serviceEntries.delete('shop/api');
    expect(all.of('shop/api.example.com')).toBeUndefined();
    expect(all.workloads()).toEqual([]);
  });
});

describe('what cannot be done is told', () => {
  test.each<[string, object, string]>([
    ['a wildcard', { hosts: ['*.example.com'] }, 'spec.hosts[0]: wildcards are not there yet'],
    ['a range', { addresses: ['192.0.2.0/24'] }, 'spec.addresses[0]: must be one address'],
    ['loopback', { addresses: ['127.0.0.1'] }, 'spec.addresses[0]: 127.0.0.1 is loopback'],
    [
      'the metadata service as endpoint',
      { endpoints: [{ address: '169.254.169.254' }] },
      'spec.endpoints[0].address: 169.254.169.254 is loopback, link-local',
    ],
    [
      'the proxy itself as endpoint',
      { endpoints: [{ address: '127.0.0.1' }] },
      'spec.endpoints[0].address: 127.0.0.1 is loopback',
    ],
    [
      'a name where addresses must be',
      { endpoints: [{ address: 'db.example.com' }] },
      'a name needs resolution DNS',
    ],
    ['a socket', { endpoints: [{ address: 'unix:///run/x' }] }, 'unix sockets'],
    ['STATIC without endpoints', { endpoints: undefined }, 'spec.endpoints: STATIC needs'],
    ['endpoints of NONE', { resolution: 'NONE' }, 'spec.resolution: NONE goes where'],
    ['no port', { ports: [] }, 'spec.ports: names no port'],
    [
      'a port twice',
      {
        ports: [
          { number: 80, name: 'a' },
          { number: 80, name: 'b' },
        ],
      },
      'spec.ports[1].number: 80 is there twice',
    ],
    [
      'a protocol nobody knows',
      { ports: [{ number: 80, name: 'a', protocol: 'SMTP' }] },
      'spec.ports[0].protocol: must be one of HTTP',
    ],
    ['DYNAMIC_DNS', { resolution: 'DYNAMIC_DNS' }, 'spec.resolution: DYNAMIC_DNS is not there yet'],
    [
      'a weight below nothing',
      { endpoints: [{ address: '198.51.100.1', weight: -2 }] },
      'spec.endpoints[0].weight: must be >= 0',
    ],
    ['a word that is none', { resolution: 'MAGIC' }, 'spec.resolution: must be one of NONE'],
  ])('%s', (_, change, message) => {
    all.entry('api', { ...fixed, ...change });
    expect(all.told('shop/api')).toContain(message);
    expect(all.told('shop/api')).toContain('Accepted=False');
  });
});

describe('nobody else’s traffic moves', () => {
  test('a host that is a Service of the cluster', () => {
    all.service('bank', 'bank', '10.96.0.5');
    all.entry('evil', { ...fixed, hosts: ['bank.bank.svc.cluster.local'] });
    expect(all.of('shop/bank.bank.svc.cluster.local')).toBeUndefined();
    expect(all.told('shop/evil')).toContain('is the name of Service bank/bank');
  });

  test('a host of another namespace, before its Service is there', () => {
    all.entry('evil', { ...fixed, hosts: ['bank.bank.svc.cluster.local'] });
    expect(all.of('shop/bank.bank.svc.cluster.local')).toBeUndefined();
    expect(all.told('shop/evil')).toContain('is a name of another namespace');
  });

  test('an address of a Service, of a pod, and as soon as it becomes one', () => {
    all.entry('evil', { ...fixed, addresses: ['10.96.0.5', '10.0.0.1'] });
    expect(all.of('shop/api.example.com')?.vips).toEqual(['10.96.0.5', '10.0.0.1']);
    all.service('bank', 'bank', '10.96.0.5');
    all.pod('victim', '10.0.0.1');
    expect(all.of('shop/api.example.com')?.vips).toEqual([]);
    expect(all.told('shop/evil')).toContain('10.96.0.5 is an address of Service bank/bank');
    expect(all.told('shop/evil')).toContain('10.0.0.1 is the address of Pod shop/victim');
  });

  test('what an older entry has is the newer one’s for its own namespace only', () => {
    all.entry('api', fixed, 'first');
    all.entry('api', fixed, 'second');
    expect(all.of('first/api.example.com')?.visibleTo).toBeUndefined();
    expect(all.of('second/api.example.com')?.visibleTo).toEqual(['second']);
    expect(all.told('second/api')).toContain("ServiceEntry first/api's, which is older");
    expect(all.told('first/api')).not.toContain('Conflicted');
  });

  test('an older entry that is kept to its own namespace does not stand before a public one', () => {
    all.entry('api', { ...fixed, exportTo: ['.'] }, 'first');
    all.entry('api', fixed, 'second');
    expect(all.of('first/api.example.com')?.visibleTo).toEqual(['first']);
    expect(all.of('second/api.example.com')?.visibleTo).toBeUndefined();
  });

  test('the same host twice in one namespace: the older one has it, whoever is heard first', () => {
    all.entry('a', fixed);
    all.entry('b', { ...fixed, addresses: ['192.0.2.11'] });
    expect(all.of('shop/api.example.com')?.entry?.name).toBe('a');
    all.mesh.sources.serviceEntries.delete('shop/a');
    expect(all.of('shop/api.example.com')?.entry?.name).toBe('b');
    expect(all.told('shop/b')).not.toContain('Conflicted');
  });

  test('of several older ones the oldest is named, which has it', () => {
    all.entry('c', fixed);
    all.entry('a', fixed, 'first');
    all.entry('a', fixed);
    all.entry('b', fixed);
    expect(all.told('shop/b')).toContain(
      "api.example.com is ServiceEntry shop/c's, which is older",
    );
    all.entry('z', fixed, 'other');
    expect(all.told('other/z')).toContain("ServiceEntry shop/c's, which is older");
    all.mesh.sources.serviceEntries.delete('shop/c');
    expect(all.told('other/z')).toContain("ServiceEntry first/a's, which is older");
    expect(all.told('shop/b')).toContain(
      "api.example.com is ServiceEntry shop/a's, which is older",
    );
  });

  test('whoever names a pod of others as endpoint does not speak for its clients', () => {
    all.pod('victim', '10.0.0.1');
    all.waypoint('evil');
    const labels = { 'istio.io/use-waypoint': 'waypoint' };
    all.entry('api', { ...fixed, endpoints: [{ address: '10.0.0.1' }] }, 'evil', labels);
    const [victim] = all.workloads();
    expect(victim?.services).toHaveLength(1);
    expect(victim?.waypointIdentities).toEqual([]);
  });
});

describe('resources that name a host of a ServiceEntry', () => {
  const route = {
    hosts: ['api.example.com'],
    http: [{ route: [{ destination: { host: 'api.example.com' } }] }],
  };

  test('VirtualService and DestinationRule', () => {
    all.entry('api', fixed);
    const meta = { name: 'api', namespace: 'shop' };
    all.mesh.sources.virtualServices.set(
      'shop/api',
      decoded(decodeVirtualService, { metadata: meta, spec: route }),
    );
    const subsets = [{ name: 'v1', labels: { version: 'v1' } }];
    all.mesh.sources.destinationRules.set(
      'shop/api',
      decoded(decodeDestinationRule, {
        metadata: meta,
        spec: { host: 'api.example.com', subsets },
      }),
    );
    expect(all.routes('shop/api.example.com')?.http).toHaveLength(1);
    expect(all.state.resource('cluster', 'shop/api.example.com')).toBeDefined();
    expect(all.mesh.l7.virtualServices.get('shop/api')?.problems).toEqual([]);
    all.mesh.sources.serviceEntries.delete('shop/api');
    all.mesh.flush();
    expect(all.mesh.l7.virtualServices.get('shop/api')?.problems).not.toEqual([]);
  });

  test('a short host of a ServiceEntry does not take the name of a Service', () => {
    all.service('reviews', 'shop', '10.96.0.7');
    all.entry('evil', { ...fixed, hosts: ['reviews'] }, 'evil');
    const spec = { hosts: ['reviews'], http: [{ route: [{ destination: { host: 'reviews' } }] }] };
    all.mesh.sources.virtualServices.set(
      'shop/r',
      decoded(decodeVirtualService, { metadata: { name: 'r', namespace: 'shop' }, spec }),
    );
    all.mesh.flush();
    expect(all.mesh.l7.virtualServices.get('shop/r')?.services).toEqual([
      'shop/reviews.shop.svc.cluster.local',
    ]);
  });

  test('HTTPRoute with a ServiceEntry as parent and a Hostname as backend', () => {
    all.entry('api', { ...fixed, hosts: ['api.example.com', 'b.example.com'] });
    const spec = {
      parentRefs: [{ group: 'networking.istio.io', kind: 'ServiceEntry', name: 'api' }],
      rules: [
        {
          backendRefs: [
            { group: 'networking.istio.io', kind: 'Hostname', name: 'b.example.com', port: 80 },
          ],
        },
      ],
    };
    all.mesh.sources.httpRoutes.set(
      'shop/r',
      decoded(decodeHttpRoute, { metadata: { name: 'r', namespace: 'shop' }, spec }),
    );
    for (const host of ['api.example.com', 'b.example.com']) {
      const action = all.routes(`shop/${host}`)?.http[0]?.action;
      expect(action).toMatchObject({
        kind: 'forward',
        targets: [{ target: { kind: 'service', service: 'shop/b.example.com', port: 80 } }],
      });
    }
  });

  test('a policy of a ServiceEntry keeps its endpoints from being reached past the waypoint', () => {
    all.pod('db-1', '10.0.0.1');
    all.waypoint('shop');
    const labels = { 'istio.io/use-waypoint': 'waypoint' };
    all.entry('api', { ...fixed, endpoints: [{ address: '10.0.0.1' }] }, 'shop', labels);
    const spec = {
      targetRefs: [{ group: 'networking.istio.io', kind: 'ServiceEntry', name: 'api' }],
      rules: [{ to: [{ operation: { methods: ['GET'] } }] }],
    };
    all.mesh.sources.policies.set(
      'shop/p',
      decoded(decodeAuthorizationPolicy, { metadata: { name: 'p', namespace: 'shop' }, spec }),
    );
    expect(all.workloads()[0]?.waypointRequiredBy).toBe('AuthorizationPolicy shop/p');
    expect(all.told('shop/api')).toContain('ambit.dev/WaypointRequired=True: because of');
  });
});

describe('bindings of entries', () => {
  test('of the namespace, opted out of by none, and to another namespace where it is allowed', () => {
    all.waypoint('shop');
    all.namespace('shop', { 'istio.io/use-waypoint': 'waypoint' });
    all.entry('api', fixed);
    expect(all.of('shop/api.example.com')?.waypoint).toBeDefined();
    all.entry('api', fixed, 'shop', { 'istio.io/use-waypoint': 'none' });
    expect(all.of('shop/api.example.com')?.waypoint).toBeUndefined();

    const abroad = {
      'istio.io/use-waypoint': 'waypoint',
      'istio.io/use-waypoint-namespace': 'infra',
    };
    all.waypoint('infra', {}, { namespaces: { from: 'Same' } });
    all.entry('api', fixed, 'shop', abroad);
    all.mesh.flush();
    expect(all.told('shop/api')).toContain('istio.io/WaypointBound=False: Gateway infra/waypoint');
    all.waypoint('infra', {}, { namespaces: { from: 'All' } });
    expect(all.of('shop/api.example.com')?.waypoint).toMatchObject({
      service: 'infra/waypoint.infra.svc.cluster.local',
    });
  });

  test('a WorkloadEntry is bound to a waypoint for workloads', () => {
    all.waypoint('shop', { 'istio.io/waypoint-for': 'workload' });
    const labels = { 'istio.io/use-waypoint': 'waypoint' };
    all.workloadEntry('vm', { address: '198.51.100.7' }, 'shop', labels);
    expect(all.workloads()[0]?.waypoint).toBeDefined();
    expect(all.mesh.l7.entries.workloadEntries.get('shop/vm')?.binding.kind).toBe('bound');
  });
});
