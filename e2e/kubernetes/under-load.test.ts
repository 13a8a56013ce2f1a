import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo } from '../support/echo.ts';
import type { Totals } from '../support/load.ts';
import { sleep, underLoad } from '../support/load.ts';
import { restart } from '../support/rollout.ts';
import type { RolledOut } from '../support/rollout.ts';

/** What changes while ten callers ask without pause, in a real Kubernetes: pods join and leave, programs are replaced. */
let mesh: MeshCluster;
const direct = 'http://direct.shop:8080/';
const bound = 'http://bound.shop:8080/';
const gatewayName = 'gateway.networking.k8s.io/gateway-name';
const waypoint: RolledOut = { kind: 'Deployment', namespace: 'shop', name: 'waypoint' };
const figures: string[] = [];

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients']) await enrol(namespace, true);
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--wait');
  expect(made.text).toContain('waypoint shop/waypoint serves');
  for (const object of [
    ...echo('direct', { namespace: 'shop', replicas: 2 }),
    ...echo('bound', {
      namespace: 'shop',
      replicas: 2,
      serviceLabels: { 'istio.io/use-waypoint': 'waypoint' },
    }),
  ])
    await mesh.cluster.apply(object);
  await mesh.patch('/apis/apps/v1/namespaces/shop/deployments/waypoint', { spec: { replicas: 2 } });
  await until(async () => {
    const pods = await mesh.cluster.pods('shop');
    return pods.every(({ ready }) => ready) || undefined;
  }, 120_000);
  await until(async () => {
    const seen = await askEcho(mesh, await mesh.pod('clients', { app: 'client' }), 'bound.shop');
    const proxies = (await mesh.cluster.pods('shop')).filter(
      ({ labels }) => labels.get(gatewayName) === 'waypoint',
    );
    return proxies.some(({ ip }) => ip === seen?.caller) || undefined;
  }, 60_000);
}, 400_000);

afterAll(async () => {
  const folder = fileURLToPath(new URL('../../.cache/test-results', import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/under-load.txt`, `${figures.join('\n')}\n`);
  process.stdout.write(`\n${figures.join('\n')}\n\n`);
  await mesh.close();
}, 200_000);

function enrol(namespace: string, joined: boolean): Promise<void> {
  return mesh.cluster.label(namespace, 'istio.io/dataplane-mode', joined ? 'ambient' : null);
}

function figure(what: string, { ok, failed, longestMs }: Totals): void {
  const share = ((100 * ok) / (ok + failed)).toFixed(2);
  figures.push(
    `${what.padEnd(28)} ${String(ok).padStart(6)} answered ${String(failed).padStart(4)} failed  ${share} %  longest ${longestMs} ms`,
  );
}

test('TestServiceDynamicEnroll: pods join and leave five times, on either side, and no request fails', async () => {
  const totals = await underLoad(mesh, direct, async () => {
    for (let round = 0; round < 5; round += 1) {
      for (const namespace of ['shop', 'clients']) {
        await enrol(namespace, false);
        await sleep(1_500);
      }
      for (const namespace of ['clients', 'shop']) {
        await enrol(namespace, true);
        await sleep(1_500);
      }
    }
  });
  figure('enrol and release', totals);
  expect(totals).toMatchObject({ failed: 0, errors: [] });
  expect(totals.ok).toBeGreaterThan(500);
  const [pod] = (await mesh.cluster.pods('shop')).filter(
    ({ labels }) => labels.get('app') === 'direct',
  );
  expect(pod?.redirected).toBe(true);
}, 150_000);

test('TestServiceRestart: a rolling restart of the application', async () => {
  const totals = await underLoad(mesh, direct, () =>
    restart(mesh, { kind: 'Deployment', namespace: 'shop', name: 'direct' }),
  );
  figure('application', totals);
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 200_000);

test('TestServiceRestart: a rolling restart of the application behind a waypoint', async () => {
  const totals = await underLoad(mesh, bound, () =>
    restart(mesh, { kind: 'Deployment', namespace: 'shop', name: 'bound' }),
  );
  figure('application, waypoint', totals);
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 200_000);

test('a rolling restart of the waypoint', async () => {
  const totals = await underLoad(mesh, bound, async () => {
    await restart(mesh, waypoint);
    // Those that go are still draining.
    await sleep(12_000);
  });
  figure('waypoint', totals);
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 200_000);

const system = 'istio-system';

test('a rolling restart of the controller', async () => {
  const totals = await underLoad(mesh, bound, () =>
    restart(mesh, { kind: 'Deployment', namespace: system, name: 'ambit-controller' }),
  );
  figure('controller', totals);
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 200_000);

test('a rolling restart of the agent', async () => {
  const totals = await underLoad(mesh, bound, () =>
    restart(mesh, { kind: 'DaemonSet', namespace: system, name: 'cni-redirect' }),
  );
  figure('agent', totals);
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 200_000);

test('TestZtunnelRestart: a rolling restart of the node proxy under 20 requests a second', async () => {
  const totals = await underLoad(
    mesh,
    direct,
    () => restart(mesh, { kind: 'DaemonSet', namespace: system, name: 'ztunnel' }),
    { perSecond: 20 },
  );
  figure('ztunnel, at 20 rps', totals);
  // The field's own test asks for nine of ten.
  expect(totals.ok / (totals.ok + totals.failed)).toBeGreaterThanOrEqual(0.99);
}, 200_000);
