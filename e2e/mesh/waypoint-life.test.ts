import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { TourPod } from '@ambit/sandbox';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { sleep, underLoad } from '../support/load.ts';
import { ownMachineTest } from '../support/wire.ts';

/** A waypoint that is scaled, rolled, killed and taken away while requests pass it, in a whole cluster. */
let mesh: MeshCluster;
const reviews = 'http://reviews.shop:8080/';
const waypointLabels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients']) {
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  }
  await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  await until(async () => {
    const { ips } = await mesh.pod('shop', waypointLabels);
    const [answer] = await mesh.ask(reviews);
    return ips.some((ip) => answer?.body.includes(`"caller":"${ip}"`)) || undefined;
  }, 30_000);
}, 120_000);

afterAll(async () => {
  await mesh.close();
}, 60_000);

const kubectlScript = fileURLToPath(new URL('../../scripts/kubectl.mjs', import.meta.url));

async function kubectl(...args: string[]): Promise<void> {
  const path = execFileSync(process.execPath, [kubectlScript], { encoding: 'utf8' }).trim();
  await promisify(execFile)(path, ['--kubeconfig', mesh.kubeconfig, ...args]);
}

async function patchGateway(spec: object): Promise<void> {
  const patch = JSON.stringify({ spec });
  await kubectl('patch', 'gateway/waypoint', '-n', 'shop', '--type=merge', '-p', patch);
}

async function scale(replicas: number, restartedAt = ''): Promise<void> {
  await mesh.cluster.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'waypoint', namespace: 'shop' },
    spec: {
      replicas,
      ...(restartedAt === '' ? {} : { template: { metadata: { annotations: { restartedAt } } } }),
    },
  });
}

async function replicas(): Promise<readonly Pick<TourPod, 'name' | 'ready' | 'labels'>[]> {
  const pods = await mesh.cluster.pods('shop');
  return pods.filter(
    ({ labels }) => labels.get('gateway.networking.k8s.io/gateway-name') === 'waypoint',
  );
}

async function settles(count: number, gone: readonly string[] = []): Promise<void> {
  await until(async () => {
    const pods = await replicas();
    // In the midst of a rollout there may be as many, and ready, of two templates.
    const templates = new Set(pods.map(({ labels }) => labels.get('pod-template-hash')));
    const fine = pods.length === count && templates.size <= 1 && pods.every(({ ready }) => ready);
    return (fine && !pods.some(({ name }) => gone.includes(name))) || undefined;
  }, 60_000);
}

/** The programs of waypoints, found as the machine sees them. */
function waypointProcesses(pod: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('/waypoint.mjs') &&
          readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`POD_NAME=${pod}\0`)
        );
      } catch {
        return false;
      }
    });
}

test('scaling from one replica to three and back loses no request', async () => {
  const totals = await underLoad(mesh, reviews, async () => {
    await scale(3);
    await settles(3);
    await sleep(2_000);
    await scale(1);
    await settles(1);
    // Those that go are still draining.
    await sleep(12_000);
  });
  expect(totals).toMatchObject({ failed: 0, errors: [] });
  expect(totals.ok).toBeGreaterThan(300);
}, 120_000);

test('a rolling restart loses no request', async () => {
  await scale(2);
  await settles(2);
  const before = (await replicas()).map(({ name }) => name);
  const totals = await underLoad(mesh, reviews, async () => {
    await scale(2, 'now');
    await settles(2, before);
    await sleep(12_000);
  });
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 120_000);

ownMachineTest(
  'a replica that is killed cuts what was under way on it, and the next requests go to another at once',
  async () => {
    await scale(2, 'now');
    await settles(2);
    const totals = await underLoad(mesh, reviews, async () => {
      const [victim] = await replicas();
      const processes = waypointProcesses(victim?.name ?? '');
      expect(processes.length).toBeGreaterThan(0);
      for (const pid of processes) process.kill(pid, 'SIGKILL');
      await sleep(5_000);
    });
    // At most one for each of the ten lines: those that were under way.
    expect(totals.failed).toBeLessThanOrEqual(10);
    for (const error of totals.errors) expect(error).toMatch(/ECONNRESET|socket hang up/);
    expect(totals.longestMs).toBeLessThan(1_000);
  },
  120_000,
);

test('the replicas that `kubectl scale` asked for stay when the Gateway changes', async () => {
  await kubectl('scale', 'deployment/waypoint', '-n', 'shop', '--replicas=2');
  await settles(2);
  const before = (await replicas()).map(({ name }) => name);
  const changed = { infrastructure: { annotations: { 'example.com/version': '2' } } };
  await patchGateway(changed);
  await settles(2, before);
  await kubectl('annotate', 'gateway/waypoint', '-n', 'shop', 'example.com/touched=yes');
  await sleep(2_000);
  expect(await replicas()).toHaveLength(2);
  await kubectl('scale', 'deployment/waypoint', '-n', 'shop', '--replicas=1');
  await settles(1);
}, 120_000);

test('parameters of the Gateway roll out, and bad ones are told and change nothing', async () => {
  const name = 'waypoint-options';
  const options = (deployment: string): object => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'shop' },
    data: { deployment },
  });
  const before = (await replicas()).map((one) => one.name);
  await mesh.cluster.apply(
    options('spec: { replicas: 2, template: { metadata: { annotations: { tuned: "yes" } } } }'),
  );
  const parametersRef = { group: '', kind: 'ConfigMap', name };
  const spec = { infrastructure: { parametersRef } };
  await patchGateway(spec);
  await settles(2, before);
  const tuned = (await replicas()).map((one) => one.name).sort();
  await mesh.cluster.apply(options('spec: { template: { spec: { hostNetwork: true } } }'));
  const path = '/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/waypoint';
  await until(async () => {
    const told = JSON.stringify(((await mesh.get(path)) as { status: unknown }).status);
    return (told.includes('InvalidParameters') && told.includes('hostNetwork')) || undefined;
  });
  expect((await replicas()).map((one) => one.name).sort()).toEqual(tuned);
}, 120_000);

const gateways = '/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways';
const gateway = (name: string): object => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'Gateway',
  metadata: { name, namespace: 'shop' },
  spec: {
    gatewayClassName: 'istio-waypoint',
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  },
});
const told = async (path: string): Promise<string> =>
  JSON.stringify(((await mesh.get(path)) as { status?: unknown }).status ?? {});

test('a Gateway takes nothing over that bears its name: it is told, and serves once that is gone', async () => {
  const service = '/api/v1/namespaces/shop/services/reviews';
  const selector = async (): Promise<unknown> =>
    ((await mesh.get(service)) as { spec: { selector: unknown } }).spec.selector;
  const before = await selector();
  expect(await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--name', 'reviews')).toEqual({
    status: 1,
    text: expect.stringContaining('Service shop/reviews is there and belongs to no waypoint'),
  });
  const account = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'other', namespace: 'shop' },
  };
  const mine = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'mine', namespace: 'shop', labels: { 'istio.io/use-waypoint': 'reviews' } },
    spec: {
      selector: { app: 'reviews' },
      ports: [{ name: 'http', port: 8080, targetPort: 'http' }],
    },
  };
  await mesh.apply(account, gateway('reviews'), gateway('other'), mine);
  const blocked = /Service shop\/reviews (?:is|are) there and not of this Gateway/;
  await until(async () => blocked.test(await told(`${gateways}/reviews`)) || undefined);
  await until(
    async () =>
      (await told(`${gateways}/other`)).includes('ServiceAccount shop/other') || undefined,
  );
  await until(
    async () =>
      (await told('/api/v1/namespaces/shop/services/mine')).includes('WaypointBlocked') ||
      undefined,
  );
  await sleep(1_000);
  expect((await mesh.ask('http://mine.shop:8080/'))[0]?.status).toBe(0);
  expect((await mesh.ask(reviews))[0]?.status).toBe(200);
  await mesh.cluster.remove(account);
  await until(
    async () => (await told(`${gateways}/other`)).includes('a proxy is ready') || undefined,
    60_000,
  );
  await mesh.cluster.remove(gateway('reviews'));
  await sleep(2_000);
  expect(await selector()).toEqual(before);
  expect((await mesh.ask(reviews))[0]?.status).toBe(200);
  await mesh.clean();
}, 120_000);

test('a Gateway goes on with the ServiceAccount that Istio made for it', async () => {
  const name = 'istios';
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop' },
    spec: { ports: [{ port: 80 }] },
  };
  await mesh.apply(service, gateway(name));
  const blocked = `Service shop/${name} is there and not of this Gateway`;
  await until(async () => (await told(`${gateways}/${name}`)).includes(blocked) || undefined);
  const { uid } = ((await mesh.get(`${gateways}/${name}`)) as { metadata: { uid: string } })
    .metadata;
  const apiVersion = 'gateway.networking.k8s.io/v1beta1';
  await mesh.cluster.apply({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: {
      name,
      namespace: 'shop',
      labels: { 'gateway.istio.io/managed': 'istio.io-mesh-controller' },
      annotations: { note: 'of its users' },
      ownerReferences: [{ apiVersion, kind: 'Gateway', name, uid }],
    },
  });
  await mesh.cluster.remove(service);
  await until(
    async () => (await told(`${gateways}/${name}`)).includes('a proxy is ready') || undefined,
    60_000,
  );
  const account = await mesh.get(`/api/v1/namespaces/shop/serviceaccounts/${name}`);
  expect(account).toMatchObject({
    metadata: {
      labels: { 'gateway.istio.io/managed': 'ambit.dev-mesh-controller' },
      annotations: { note: 'of its users' },
      ownerReferences: [{ uid }],
    },
  });
  await mesh.clean();
}, 120_000);

test('a Gateway that is deleted after its bindings were taken away costs no request', async () => {
  const totals = await underLoad(mesh, reviews, async () => {
    await mesh.cluster.label('shop', 'istio.io/use-waypoint', null);
    await sleep(1_000);
    await kubectl('delete', 'gateway/waypoint', '-n', 'shop');
    await settles(0);
    await sleep(12_000);
  });
  expect(totals).toMatchObject({ failed: 0, errors: [] });
  expect(totals.ok).toBeGreaterThan(300);
}, 120_000);
