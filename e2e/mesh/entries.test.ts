import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Asked, MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';

/** ServiceEntries, WorkloadEntries, and what the status tells of bindings, in a whole cluster. */
let mesh: MeshCluster;
let number = 0;
// Of its own for each test, so that none sees what another has left.
let host: string;
let address: string;
let url: string;
let resolved: readonly string[];
let entryPath: string;
const waypointPod = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients'])
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--wait');
  expect(made.text).toContain('waypoint shop/waypoint serves');
}, 120_000);

beforeEach(() => {
  number += 1;
  host = `api-${number}.example.com`;
  address = `192.0.2.${number}`;
  url = `http://${host}/`;
  resolved = ['--resolve', `${host}:80:${address}`];
  entryPath = entryPathIn('shop');
});

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 60_000);

const bound = { 'istio.io/use-waypoint': 'waypoint' };

function object(kind: string, name: string, spec: object, labels: object = {}, namespace = 'shop') {
  const apiVersion = 'networking.istio.io/v1';
  return { apiVersion, kind, metadata: { name, namespace, labels }, spec };
}

function entry(spec: object, labels: object = {}, namespace = 'shop') {
  const ports = [{ number: 80, name: 'http', protocol: 'HTTP', targetPort: 8080 }];
  const whole = { hosts: [host], addresses: [address], ports, ...spec };
  return object('ServiceEntry', `api-${number}`, whole, labels, namespace);
}

function gateway(listener: object, more: object = {}) {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'waypoint', namespace: 'shop' },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE', ...listener }],
      ...more,
    },
  };
}

async function becomes(holds: (answer: Asked) => boolean): Promise<Asked> {
  return until(async () => {
    const [answer] = await mesh.ask(url, resolved);
    return answer !== undefined && holds(answer) ? answer : undefined;
  }, 30_000);
}

async function waypointIps(): Promise<readonly string[]> {
  return (await mesh.pod('shop', waypointPod)).ips;
}

function through(ips: readonly string[]): (answer: Asked) => boolean {
  return ({ status, body }) =>
    status === 200 && ips.some((ip) => body.includes(`"caller":"${ip}"`));
}

interface Told {
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
  readonly listeners?: readonly object[];
  readonly addresses?: readonly object[];
}

async function told(path: string): Promise<Told> {
  return ((await mesh.get(path)) as { status?: Told }).status ?? {};
}

async function condition(path: string, type: string, status: string): Promise<string> {
  return until(async () => {
    const found = (await told(path)).conditions?.find((one) => one.type === type);
    return found?.status === status ? `${found.reason}: ${found.message}` : undefined;
  });
}

function entryPathIn(namespace: string): string {
  return `/apis/networking.istio.io/v1/namespaces/${namespace}/serviceentries/api-${number}`;
}

test('TestServiceEntryInlinedWorkloadEntry: an address leads to an endpoint, and through the waypoint', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews', version: 'v2' });
  const spec = { resolution: 'STATIC', location: 'MESH_INTERNAL', endpoints: [{ address: ip }] };
  await mesh.apply(entry(spec));
  expect((await becomes(({ status }) => status === 200)).version).toBe('v2');
  await mesh.apply(entry(spec, bound));
  await becomes(through(await waypointIps()));
  await condition(entryPath, 'istio.io/WaypointBound', 'True');
});

test('TestServiceEntrySelectsWorkloadEntry: endpoints by their labels', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews', version: 'v1' });
  await mesh.apply(
    object('WorkloadEntry', 'vm', { address: ip, labels: { role: 'vm' } }),
    entry({ resolution: 'STATIC', workloadSelector: { labels: { role: 'vm' } } }, bound),
  );
  const answer = await becomes(through(await waypointIps()));
  expect(answer.version).toBe('v1');
});

test('TestServiceEntrySelectsUncapturedPod: pods by their labels, routed by header', async () => {
  await mesh.apply(
    entry({ resolution: 'STATIC', workloadSelector: { labels: { app: 'reviews' } } }, bound),
    object('DestinationRule', 'api', {
      host,
      subsets: ['v1', 'v2'].map((name) => ({ name, labels: { version: name } })),
    }),
    object('VirtualService', 'api', {
      hosts: [host],
      http: [{ route: [{ destination: { host, subset: 'v2' } }] }],
    }),
  );
  await becomes(({ version }) => version === 'v2');
  const answers = await mesh.ask(`${url}?n=[1-20]`, resolved);
  expect(new Set(answers.map(({ version }) => version))).toEqual(new Set(['v2']));
});

test('TestWaypointDNS: a name is resolved by the waypoint', async () => {
  const endpoints = [{ address: 'reviews.shop.svc.cluster.local', ports: { http: 8080 } }];
  await mesh.apply(entry({ resolution: 'DNS', endpoints }, bound));
  await becomes(through(await waypointIps()));
});

test('a ServiceEntry may be bound to a waypoint of another namespace', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews', version: 'v1' });
  const labels = { ...bound, 'istio.io/use-waypoint-namespace': 'shop' };
  const path = entryPathIn('clients');
  await mesh.apply(
    entry({ resolution: 'STATIC', endpoints: [{ address: ip }] }, labels, 'clients'),
  );
  expect(await condition(path, 'istio.io/WaypointBound', 'False')).toContain('NotAllowed');
  expect((await mesh.ask(url, ['-m', '3', ...resolved]))[0]?.status ?? 0).toBe(0);
  await mesh.cluster.apply(gateway({ allowedRoutes: { namespaces: { from: 'All' } } }));
  await condition(path, 'istio.io/WaypointBound', 'True');
  await becomes(through(await waypointIps()));
  await mesh.cluster.apply(gateway({ allowedRoutes: { namespaces: { from: 'Same' } } }));
});

test('TestServiceEntryVisibility: what another namespace has is not taken from its clients', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews', version: 'v1' });
  const other = (await mesh.pod('shop', { app: 'reviews', version: 'v2' })).ip;
  const spec = (to: string) => ({ resolution: 'STATIC', endpoints: [{ address: to }] });
  await mesh.apply(entry({ ...spec(other), exportTo: ['.'] }));
  await condition(entryPath, 'Accepted', 'True');
  await mesh.apply(entry(spec(ip), {}, 'clients'));
  expect((await becomes(({ status }) => status === 200)).version).toBe('v1');
});

test('TestWaypointStatus: GatewayClass, Gateway, Service and ServiceEntry', async () => {
  const group = '/apis/gateway.networking.k8s.io/v1';
  await condition(`${group}/gatewayclasses/istio-waypoint`, 'Accepted', 'True');
  const gateway = await told(`${group}/namespaces/shop/gateways/waypoint`);
  expect(gateway).toMatchObject({
    addresses: [{ type: 'Hostname', value: 'waypoint.shop.svc.cluster.local' }],
    listeners: [{ name: 'mesh', attachedRoutes: 0 }],
  });
  const labels = bound;
  await mesh.apply(
    entry({ resolution: 'STATIC', endpoints: [{ address: '198.51.100.1' }] }, labels),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'status', namespace: 'shop', labels },
      spec: { selector: { app: 'reviews' }, ports: [{ name: 'http', port: 8080 }] },
    },
    {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'status', namespace: 'shop' },
      spec: {
        targetRefs: [{ group: '', kind: 'Service', name: 'status' }],
        rules: [{ to: [{ operation: { methods: ['GET'] } }] }],
      },
    },
  );
  const service = '/api/v1/namespaces/shop/services/status';
  for (const path of [service, entryPath]) {
    expect(await condition(path, 'istio.io/WaypointBound', 'True')).toContain(
      'WaypointAccepted: Successfully attached to waypoint shop/waypoint',
    );
  }
  expect(await condition(service, 'ambit.dev/WaypointRequired', 'True')).toContain(
    'AuthorizationPolicy shop/status',
  );
  const status = await mesh.ctl('waypoint', 'status', '-n', 'shop');
  expect(status.text).toMatch(/Service +shop\/status +True +True/);
  expect(status.text).toMatch(/ServiceEntry +shop\/api-\d+ +True/);
});

test('TestOtherRevisionIgnored: a Gateway of another revision is left alone', async () => {
  const path = '/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/other';
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--name', 'other', '-r', 'canary');
  expect(made.status).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  // The official definition says `Unknown` by itself until somebody says more.
  const said = (await told(path)).conditions ?? [];
  expect(said.filter((one) => one.status !== 'Unknown')).toEqual([]);
  const pods = await mesh.cluster.pods('shop');
  expect(
    pods.some(({ labels }) => labels.get('gateway.networking.k8s.io/gateway-name') === 'other'),
  ).toBe(false);
  expect((await mesh.ctl('waypoint', 'delete', 'other', '-n', 'shop')).status).toBe(0);
});

test('a waypoint for workloads is on the way to a pod', async () => {
  const args = ['-n', 'shop', '--name', 'direct', '--for', 'workload'];
  expect((await mesh.ctl('waypoint', 'apply', ...args, '--wait')).status).toBe(0);
  const { ips } = await mesh.pod('shop', { 'gateway.networking.k8s.io/gateway-name': 'direct' });
  const { ip } = await mesh.pod('shop', { app: 'reviews', version: 'v1' });
  await mesh.cluster.label('shop', 'istio.io/use-waypoint', 'direct');
  await until(async () => {
    const [answer] = await mesh.ask(`http://${ip}:8080/`);
    return (answer !== undefined && through(ips)(answer)) || undefined;
  });
  const status = await mesh.ctl('waypoint', 'status', '-n', 'shop', '--name', 'direct');
  expect(status.text).toMatch(/Pod +shop\/reviews/);
  const namespace = '/api/v1/namespaces/shop';
  expect(await condition(namespace, 'istio.io/WaypointBound', 'True')).toContain('shop/direct');
  expect((await mesh.ctl('waypoint', 'list', '-A')).text).toMatch(
    /shop +direct +default +workload +True/,
  );
  await mesh.cluster.label('shop', 'istio.io/use-waypoint', null);
  await until(async () => {
    const [answer] = await mesh.ask(`http://${ip}:8080/`);
    return (answer?.status === 200 && !through(ips)(answer)) || undefined;
  });
  expect(await condition(namespace, 'istio.io/WaypointBound', 'False')).toContain('NotRequested');
  expect((await mesh.ctl('waypoint', 'delete', 'direct', '-n', 'shop')).status).toBe(0);
});

test('TestWaypointStatus: a pod that is labelled itself says so, and its kubelet still has its say', async () => {
  const { name, ip } = await mesh.pod('shop', { app: 'reviews', version: 'v1' });
  const path = `/api/v1/namespaces/shop/pods/${name}`;
  const ask = async () => (await mesh.ask(`http://${ip}:8080/`))[0]?.status;
  const label = (value: string | null) =>
    mesh.patch(path, { metadata: { labels: { 'istio.io/use-waypoint': value } } });
  await label('nobody');
  expect(await condition(path, 'istio.io/WaypointBound', 'False')).toContain(
    'WaypointMissing: there is no Gateway shop/nobody of class istio-waypoint',
  );
  await until(async () => ((await ask()) === 0 ? true : undefined));
  await label(null);
  await until(async () => {
    const said = await condition(path, 'istio.io/WaypointBound', 'False');
    return said.startsWith('NotRequested') || undefined;
  });
  await until(async () => ((await ask()) === 200 ? true : undefined));
  await condition(path, 'Ready', 'True');
});

test('TestWaypointChanges: a new template rolls out and no request is lost', async () => {
  const { ip } = await mesh.pod('shop', { app: 'reviews', version: 'v1' });
  await mesh.apply(entry({ resolution: 'STATIC', endpoints: [{ address: ip }] }, bound));
  await becomes(through(await waypointIps()));
  const before = (await mesh.pod('shop', waypointPod)).uid;
  const { name } = await mesh.pod('clients', { app: 'client' });
  const load = mesh.cluster.exec('clients', name, [
    'sh',
    '-c',
    `for i in $(seq 1 400); do curl -s -m 5 -o /dev/null -w '%{http_code}\\n' ${resolved.join(' ')} ${url}; done | sort | uniq -c`,
  ]);
  await mesh.cluster.apply(
    gateway({}, { infrastructure: { annotations: { 'example.com/version': '2' } } }),
  );
  await until(async () => {
    const pods = await mesh.cluster.pods('shop');
    const ours = pods.filter(
      ({ labels }) => labels.get('gateway.networking.k8s.io/gateway-name') === 'waypoint',
    );
    return ours.length === 1 && ours[0]?.ready === true && ours[0].uid !== before
      ? true
      : undefined;
  }, 60_000);
  expect((await load).output.trim()).toBe('400 200');
}, 120_000);
