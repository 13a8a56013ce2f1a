import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { MeshSandbox } from '../support/sandbox.ts';
import { startMeshSandbox, until } from '../support/sandbox.ts';

/** A waypoint that is scaled, rolled, killed and taken away while requests pass it, in a whole cluster. */
let mesh: MeshSandbox;
const reviews = 'http://reviews.shop:8080/';
const script = fileURLToPath(new URL('../support/load.mjs', import.meta.url));
const stopFile = '/tmp/load-over';
const waypointLabels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };

beforeAll(async () => {
  mesh = await startMeshSandbox();
  for (const namespace of ['shop', 'clients']) {
    await mesh.sandbox.tour.label(namespace, 'istio.io/dataplane-mode', 'ambient');
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

interface Totals {
  readonly ok: number;
  readonly failed: number;
  readonly longestMs: number;
  readonly errors: readonly string[];
}

async function underLoad(work: () => Promise<void>): Promise<Totals> {
  const { name } = await mesh.pod('clients', { app: 'client' });
  const inPod = (...command: string[]) => mesh.sandbox.tour.exec('clients', name, command);
  await inPod('rm', '-f', stopFile);
  const done = inPod('node', script, reviews, stopFile, '90');
  await sleep(1_000);
  await work();
  await sleep(500);
  await inPod('touch', stopFile);
  const { output } = await done;
  return JSON.parse(output) as Totals;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function scale(replicas: number, restartedAt = ''): Promise<void> {
  await mesh.sandbox.tour.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'waypoint', namespace: 'shop' },
    spec: {
      replicas,
      ...(restartedAt === '' ? {} : { template: { metadata: { annotations: { restartedAt } } } }),
    },
  });
}

async function replicas(): Promise<readonly { readonly name: string; readonly ready: boolean }[]> {
  const pods = await mesh.sandbox.tour.pods('shop');
  return pods.filter(
    ({ labels }) => labels.get('gateway.networking.k8s.io/gateway-name') === 'waypoint',
  );
}

async function settles(count: number, gone: readonly string[] = []): Promise<void> {
  await until(async () => {
    const pods = await replicas();
    const fine = pods.length === count && pods.every(({ ready }) => ready);
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
          readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('programs/waypoint') &&
          readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`POD_NAME=${pod}\0`)
        );
      } catch {
        return false;
      }
    });
}

test('scaling from one replica to three and back loses no request', async () => {
  const totals = await underLoad(async () => {
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
  const totals = await underLoad(async () => {
    await scale(2, 'now');
    await settles(2, before);
    await sleep(12_000);
  });
  expect(totals).toMatchObject({ failed: 0, errors: [] });
}, 120_000);

test('a replica that is killed cuts what was under way on it, and the next requests go to another at once', async () => {
  await scale(2, 'now');
  await settles(2);
  const totals = await underLoad(async () => {
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
}, 120_000);
