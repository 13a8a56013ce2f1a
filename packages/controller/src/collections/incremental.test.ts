import { expect, test } from '@jest/globals';

import { trustDomain } from '../../test/support.ts';
import type { Decode } from '../kube/cache.ts';
import { decodeGateway, decodeRequestAuthentication } from '../kube/decode/configuration.ts';
import { decode } from '../kube/decode/index.ts';
import { decodeNamespace } from '../kube/decode/namespace.ts';
import { SnapshotState } from '../push/state.ts';
import type { Collection, ReadableCollection } from './collection.ts';
import type { MeshCollections } from './mesh.ts';
import { createMeshCollections } from './mesh.ts';
import type { Sources } from './sources.ts';

/** What is chosen is the same for one seed. */
class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(limit: number): number {
    // mulberry32
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  one<T>(of: readonly [T, ...T[]]): T {
    return of[this.below(of.length)] ?? of[0];
  }

  /** One of these, or nothing. */
  maybe(...of: [object, ...object[]]): object {
    return this.below(2) === 0 ? {} : this.one(of);
  }
}

const namespaces = ['shop', 'bank', 'istio-system'] as const;
const services = ['web', 'cart', 'api'] as const;
const rest = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
const gatewayGroup = 'gateway.networking.k8s.io';

interface Made {
  readonly metadata?: object;
  readonly [field: string]: unknown;
}

interface Kind {
  readonly source: keyof Sources;
  readonly decode: unknown;
  readonly names: readonly [string, ...string[]];
  /** Everything of an object but its name. */
  readonly object: (by: Chance, namespace: string) => Made;
}

const selector = (by: Chance): object => ({
  ...by.maybe({ app: by.one(services) }),
  ...by.maybe({ version: by.one(['v1', 'v2']) }),
});
const labels = (by: Chance): object => ({ app: by.one(services), ...selector(by) });
const enrolled = (by: Chance): object =>
  by.maybe(
    {},
    { 'istio.io/use-waypoint': 'w' },
    { 'istio.io/use-waypoint': 'w', 'istio.io/use-waypoint-namespace': by.one(namespaces) },
  );
const target = (by: Chance): object =>
  by.maybe(
    { targetRefs: [{ group: '', kind: 'Service', name: by.one(services) }] },
    { targetRefs: [{ group: gatewayGroup, kind: 'Gateway', name: 'w' }] },
    { selector: { matchLabels: selector(by) } },
  );
const hostOf = (by: Chance): string =>
  by.one([
    'web',
    'cart.shop',
    'web.shop.svc.cluster.local',
    'web.bank.svc.cluster.local',
    'x.example.com',
    '*.shop.svc.cluster.local',
    '*.local',
    '*b.bank.svc.cluster.local',
    '*',
  ]);
const exportTo = (by: Chance): object =>
  by.maybe(
    { exportTo: ['.'] },
    { exportTo: ['*'] },
    { exportTo: ['shop'] },
    { exportTo: ['shop', 'bank'] },
    { exportTo: ['bank', '.', 'istio-system'] },
  );
const address = (by: Chance, last: number): string => `10.0.0.${by.below(last)}`;

const kinds: readonly [Kind, ...Kind[]] = [
  {
    source: 'pods',
    decode: decode.pod,
    names: rest,
    object: (by) => {
      const ip = address(by, 12);
      const annotations = by.maybe({}, { 'ambit.dev/bypass-waypoint': 'allow' });
      return {
        metadata: { labels: labels(by), annotations, uid: 'u' },
        spec: { nodeName: 'n', serviceAccountName: 'default' },
        status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] },
      };
    },
  },
  {
    source: 'namespaces',
    decode: decodeNamespace,
    names: namespaces,
    object: (by) => ({ metadata: { labels: enrolled(by) } }),
  },
  {
    source: 'services',
    decode: decode.service,
    names: services,
    object: (by) => ({
      metadata: { labels: enrolled(by) },
      spec: {
        selector: selector(by),
        clusterIPs: [`10.96.0.${by.below(6)}`],
        ports: [{ name: 'http', port: 80 }],
      },
    }),
  },
  {
    source: 'endpointSlices',
    decode: decode.endpointSlice,
    names: rest,
    object: (by, namespace) => ({
      metadata: { labels: { 'kubernetes.io/service-name': by.one(services) } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080 }],
      endpoints: [
        { addresses: [address(by, 12)] },
        {
          addresses: [address(by, 12)],
          targetRef: { kind: 'Pod', namespace, name: by.one(rest), uid: 'u' },
        },
      ],
    }),
  },
  {
    source: 'gateways',
    decode: decodeGateway,
    names: ['w'],
    object: (by) => ({
      metadata: { uid: 'u', labels: by.maybe({ 'istio.io/waypoint-for': 'all' }) },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    }),
  },
  {
    source: 'policies',
    decode: decode.authorizationPolicy,
    names: rest,
    object: (by) => ({
      spec: { ...target(by), action: by.one(['ALLOW', 'DENY', 'AUDIT']), rules: [{}] },
    }),
  },
  {
    source: 'peerAuthentications',
    decode: decode.peerAuthentication,
    names: rest,
    object: (by) => ({
      spec: {
        ...by.maybe({ selector: { matchLabels: selector(by) } }),
        mtls: { mode: by.one(['STRICT', 'PERMISSIVE', 'DISABLE', 'UNSET', 'OTHER']) },
      },
    }),
  },
  {
    source: 'requestAuthentications',
    decode: decodeRequestAuthentication,
    names: rest,
    object: (by) => ({ spec: target(by) }),
  },
  {
    source: 'telemetries',
    decode: decode.telemetry,
    names: rest,
    object: (by) => ({
      spec: { ...target(by), accessLogging: [{ disabled: by.below(2) === 0 }] },
    }),
  },
  {
    source: 'destinationRules',
    decode: decode.destinationRule,
    names: rest,
    object: (by) => ({
      spec: {
        host: hostOf(by),
        ...exportTo(by),
        ...by.maybe(
          { trafficPolicy: {} },
          { trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } },
          { trafficPolicy: { tls: 'broken' } },
        ),
        ...by.maybe({ subsets: [{ name: by.one(['x', 'y', '']) }, { name: by.one(['x', 'z']) }] }),
      },
    }),
  },
  {
    source: 'virtualServices',
    decode: decode.virtualService,
    names: rest,
    object: (by) => {
      const destination = { host: by.one(['web', 'cart.shop', 'x.example.com']) };
      const subset = by.maybe({ subset: by.one(['x', 'y', 'z']) });
      const http = [{ route: [{ destination: { ...destination, ...subset } }] }];
      return { spec: { hosts: [hostOf(by), hostOf(by)], ...exportTo(by), http } };
    },
  },
  {
    source: 'httpRoutes',
    decode: decode.httpRoute,
    names: rest,
    object: (by) => ({
      spec: {
        parentRefs: [
          by.one<object>([{ group: '', kind: 'Service', name: by.one(services) }, { name: 'w' }]),
        ],
        rules: [
          {
            backendRefs: [
              { name: by.one(services), port: 80, ...by.maybe({ namespace: by.one(namespaces) }) },
            ],
          },
        ],
      },
    }),
  },
  {
    source: 'referenceGrants',
    decode: decode.referenceGrant,
    names: rest,
    object: (by) => ({
      spec: {
        from: [{ group: gatewayGroup, kind: 'HTTPRoute', namespace: by.one(namespaces) }],
        to: [{ group: '', kind: 'Service', ...by.maybe({ name: by.one(services) }) }],
      },
    }),
  },
  {
    source: 'serviceEntries',
    decode: decode.serviceEntry,
    names: rest,
    object: (by) => ({
      metadata: { labels: enrolled(by) },
      spec: {
        hosts: [by.one(['x.example.com', 'y.example.com', 'web.shop.svc.cluster.local'])],
        ...by.maybe({ addresses: [`10.96.0.${by.below(12)}`, address(by, 24)] }),
        ...by.maybe({ exportTo: ['.'] }, { exportTo: ['~'] }),
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        ...by.one<object>([
          { resolution: 'STATIC', workloadSelector: { labels: { app: by.one(services) } } },
          { resolution: 'DNS' },
          { resolution: 'NONE' },
        ]),
      },
    }),
  },
  {
    source: 'workloadEntries',
    decode: decode.workloadEntry,
    names: rest,
    object: (by) => ({
      metadata: { labels: labels(by) },
      spec: { address: by.one(['vm.example.com', '', address(by, 12)]), labels: selector(by) },
    }),
  },
];

type Step = (mesh: MeshCollections) => void;

function stepBy(by: Chance): Step {
  const kind = by.one(kinds);
  const namespace = kind.source === 'namespaces' ? '' : by.one(namespaces);
  const name = by.one(kind.names);
  const key = namespace === '' ? name : `${namespace}/${name}`;
  const into = (mesh: MeshCollections) => mesh.sources[kind.source] as Collection<unknown>;
  if (by.below(4) === 0) return (mesh) => into(mesh).delete(key);
  const made = kind.object(by, namespace);
  const creationTimestamp = `202${by.below(4)}-01-01T00:00:00Z`;
  const object = { ...made, metadata: { ...made.metadata, name, namespace, creationTimestamp } };
  const meta = decode.metadata(object);
  const record = meta && (kind.decode as Decode<unknown>)(object, meta);
  if (record?.ok !== true) throw new TypeError(`${JSON.stringify(object)} cannot be read`);
  return (mesh) => into(mesh).set(key, record.value);
}

class World {
  readonly mesh = createMeshCollections({
    clusterId: 'c',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
  readonly #state = new SnapshotState(this.mesh.outputs);

  /** What proxies hold, and what owners are told. */
  everything(): Readonly<Record<string, unknown>> {
    this.mesh.flush();
    const { l7, judged } = this.mesh;
    const types = ['workload', 'service', 'policy', 'route', 'cluster', 'gateway', 'telemetry'];
    const sorted = (entries: Iterable<readonly [string, unknown]>) =>
      [...entries].sort(([left], [right]) => (left < right ? -1 : 1));
    const told: Readonly<Record<string, ReadableCollection<unknown>>> = {
      ...judged,
      ...l7.gatewayRoutes,
      destinationRules: l7.destinationRules,
      virtualServices: l7.virtualServices,
      entries: l7.entries.resolved,
      requirements: l7.requirements,
      entryRequirements: l7.entryRequirements,
    };
    return Object.fromEntries([
      ...types.map((type) => [type, sorted(this.#state.all(type as 'workload'))]),
      ...Object.entries(told).map(([name, of]) => [name, sorted(of.entries())]),
    ]) as Readonly<Record<string, unknown>>;
  }
}

test.each([1, 2, 3])(
  'what is brought up to date is what would be compiled at once: seed %d',
  (seed) => {
    const by = new Chance(seed);
    const world = new World();
    const steps: Step[] = [];
    for (let round = 0; round < 300; round += 1) {
      for (let left = 1 + by.below(3); left > 0; left -= 1) {
        const step = stepBy(by);
        steps.push(step);
        step(world.mesh);
      }
      const now = world.everything();
      if (round % 25 !== 24) continue;
      const fresh = new World();
      for (const step of steps) step(fresh.mesh);
      expect(now).toEqual(fresh.everything());
    }
  },
);
