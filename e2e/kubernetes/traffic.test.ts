import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import type { TourPod } from '@ambit/sandbox';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo, nowAnswers, sayLine } from '../support/echo.ts';
import { onTheWire, ownClusterTest } from '../support/wire.ts';

/** Who reaches whom and what the other side sees, in a real Kubernetes; the rows of acceptance.md by their names. */
let mesh: MeshCluster;
const waypointLabels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };
const host = (name: string, namespace = 'shop'): string => `${name}.${namespace}`;

const outsideClient = (name: string, hostNetwork: boolean) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'outside', labels: { app: name } },
  spec: {
    nodeSelector: { 'kubernetes.io/hostname': 'node-1' },
    terminationGracePeriodSeconds: 1,
    ...(hostNetwork ? { hostNetwork, dnsPolicy: 'ClusterFirstWithHostNet' } : {}),
    containers: [{ name: 'client', image: 'ambit/samples', command: ['sleep', 'infinity'] }],
  },
});

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients'])
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--wait');
  expect(made.text).toContain('waypoint shop/waypoint serves');
  for (const object of [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'outside' } },
    outsideClient('client', false),
    outsideClient('on-host', true),
    ...echo('near', { namespace: 'shop', node: 'node-1' }),
    ...echo('far', { namespace: 'shop', node: 'node-2' }),
    ...echo('headless', { namespace: 'shop', node: 'node-2', headless: true }),
    ...echo('bound', {
      namespace: 'shop',
      node: 'node-2',
      serviceLabels: { 'istio.io/use-waypoint': 'waypoint' },
    }),
    ...echo('server', { namespace: 'outside', node: 'node-2' }),
  ])
    await mesh.cluster.apply(object);
  for (const app of ['near', 'far', 'headless', 'bound']) await mesh.pod('shop', { app });
  for (const app of ['client', 'on-host', 'server']) await mesh.pod('outside', { app });
  // Names are known to DNS, and the binding to everybody.
  await until(async () => {
    const seen = await askEcho(mesh, await captured(), host('bound'));
    return seen?.caller === (await mesh.pod('shop', waypointLabels)).ip || undefined;
  }, 30_000);
  for (const { server, namespace } of services)
    for (const client of Object.values(clients))
      await nowAnswers(mesh, await client(), host(server, namespace));
}, 300_000);

afterEach(async () => {
  await mesh.clean();
});

afterAll(async () => {
  await mesh.close();
}, 200_000);

const captured = (): Promise<TourPod> => mesh.pod('clients', { app: 'client' });
const uncaptured = (): Promise<TourPod> => mesh.pod('outside', { app: 'client' });
const onHost = (): Promise<TourPod> => mesh.pod('outside', { app: 'on-host' });
const clients = { captured, uncaptured, onHost };

/** The client's own address; of a client on the host's network any of the node's, since the kernel chooses. */
function isFrom(client: TourPod, caller: string): boolean {
  return client.name === 'on-host'
    ? caller === client.ip || caller.endsWith('.1')
    : caller === client.ip;
}

const services = [
  { server: 'near', namespace: 'shop' },
  { server: 'far', namespace: 'shop' },
  { server: 'headless', namespace: 'shop' },
  { server: 'bound', namespace: 'shop' },
  { server: 'server', namespace: 'outside' },
];
const pairs = (['captured', 'uncaptured', 'onHost'] as const).flatMap((client) =>
  services.map((service) => ({ client, ...service })),
);

test.each(pairs)(
  'TestServices: $client to the service $server.$namespace, over HTTP and over TCP',
  async ({ client, server, namespace }) => {
    const from = await clients[client]();
    const waypoint = await mesh.pod('shop', waypointLabels);
    const through = server === 'bound' && client === 'captured';
    const fits = (caller = ''): boolean =>
      through ? caller === waypoint.ip : isFrom(from, caller);
    const seen = await askEcho(mesh, from, host(server, namespace));
    expect(seen?.pod).toMatch(new RegExp(`^${server}-`));
    expect({ caller: seen?.caller, fits: fits(seen?.caller) }).toMatchObject({ fits: true });
    for (const header of ['baggage', 'forwarded', 'x-envoy-peer-metadata', 'x-istio-workload'])
      expect(seen?.headers).not.toHaveProperty(header);
    const line = await sayLine(mesh, from, host(server, namespace));
    expect({ caller: line?.caller, fits: fits(line?.caller) }).toMatchObject({ fits: true });
  },
  60_000,
);

test.each(pairs)(
  'TestPodIP: $client to a pod of $server.$namespace by its address',
  async ({ client, server, namespace }) => {
    const from = await clients[client]();
    const { ip, name } = await mesh.pod(namespace, { app: server });
    const seen = await askEcho(mesh, from, ip);
    expect(seen?.pod).toBe(name);
    expect(isFrom(from, seen?.caller ?? '')).toBe(true);
    const line = await sayLine(mesh, from, ip);
    expect(isFrom(from, line?.caller ?? '')).toBe(true);
  },
  60_000,
);

function strict(namespace: string) {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: 'default', namespace },
    spec: { mtls: { mode: 'STRICT' } },
  };
}

test('TestPodIP: a pod that asks itself is not captured, not even where mutual TLS is demanded', async () => {
  await mesh.apply(strict('shop'));
  const pod = await mesh.pod('shop', { app: 'far' });
  await until(async () =>
    (await askEcho(mesh, await uncaptured(), pod.ip)) === undefined ? true : undefined,
  );
  expect((await askEcho(mesh, pod, pod.ip))?.caller).toBe(pod.ip);
  expect((await askEcho(mesh, pod, '127.0.0.1'))?.pod).toBe(pod.name);
}, 60_000);

test('TestMTLS: STRICT admits who is in the mesh and refuses who is not, PERMISSIVE admits both', async () => {
  const answers = async (client: TourPod): Promise<readonly boolean[]> =>
    Promise.all(
      ['near', 'far', 'headless'].map(
        async (server) => (await askEcho(mesh, client, host(server))) !== undefined,
      ),
    );
  expect(await answers(await captured())).toEqual([true, true, true]);
  expect(await answers(await uncaptured())).toEqual([true, true, true]);
  await mesh.apply(strict('shop'));
  await until(async () => ((await answers(await uncaptured())).includes(true) ? undefined : true));
  expect(await answers(await captured())).toEqual([true, true, true]);
  // The kubelet asks still: the pods stay ready.
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  for (const app of ['near', 'far', 'headless'])
    expect((await mesh.pod('shop', { app })).ready).toBe(true);
  await mesh.clean();
  await until(async () => ((await answers(await uncaptured())).includes(false) ? undefined : true));
}, 120_000);

ownClusterTest(
  'TestMTLS: between the nodes nothing of it is in clear, and without the mesh all of it is',
  async () => {
    const say = async (client: TourPod, secret: string): Promise<void> => {
      const url = `http://${host('far')}:8080/${secret}`;
      const command = ['curl', '-s', '-m', '5', url];
      const { output } = await mesh.cluster.exec(client.namespace, client.name, command);
      expect(output).toContain('"pod":"far-');
    };
    const from = await captured();
    const hidden = await onTheWire('node-2', 'a-secret-of-the-mesh', () =>
      say(from, 'a-secret-of-the-mesh'),
    );
    expect(hidden.inClear).toBe(0);
    expect(hidden.tlsRecords).toBeGreaterThan(0);
    const other = await uncaptured();
    const shown = await onTheWire('node-2', 'a-secret-of-nobody', () =>
      say(other, 'a-secret-of-nobody'),
    );
    expect(shown.inClear).toBeGreaterThan(0);
  },
  60_000,
);

test('TestMTLS: the metrics say who asked, and how', async () => {
  await askEcho(mesh, await captured(), host('far'));
  const { node } = await mesh.pod('shop', { app: 'far' });
  const proxies = await mesh.cluster.pods('istio-system');
  const ztunnel = proxies.find((pod) => pod.node === node && pod.name.startsWith('ztunnel-'));
  const text = await mesh.cluster.read(ztunnel?.ip ?? '', 15_020, '/stats/prometheus');
  const told = text
    .split('\n')
    .filter(
      (line) =>
        line.startsWith('istio_tcp_connections_opened_total{') &&
        [
          'reporter="destination"',
          'source_principal="spiffe://cluster.local/ns/clients/sa/client"',
          'destination_workload="far"',
          'connection_security_policy="mutual_tls"',
        ].every((label) => line.includes(label)),
    );
  expect(told.length).toBeGreaterThan(0);
}, 60_000);

test('TestAPIServer: it sees the identity of the pod, not that of a proxy', async () => {
  const client = await captured();
  const folder = '/var/run/secrets/kubernetes.io/serviceaccount';
  const review = '{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}';
  const script = `curl -s -m 10 --cacert ${folder}/ca.crt -H "Authorization: Bearer $(cat ${folder}/token)" -H 'content-type: application/json' -d '${review}' https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews`;
  const { output } = await mesh.cluster.exec('clients', client.name, ['sh', '-c', script]);
  const { status } = JSON.parse(output) as { status: { userInfo: { username: string } } };
  expect(status.userInfo.username).toBe('system:serviceaccount:clients:client');
}, 60_000);
