import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { KubeClient } from '@ambit/controller';
import { createKubeClient } from '@ambit/controller';
import { KubeConfig } from '@kubernetes/client-node';
import type { TestApi } from './support/api-server.ts';
import type { TestController } from './support/controller.ts';
import { startMeshApi, startTestController } from './support/controller.ts';
import type { Kubectl } from './support/kubectl.ts';

/** What a controller with `discoverySelectors` asks of the API, with the rights that it is given. */
let running: TestApi;
let kubectl: Kubectl;
let one: TestController;
const folder = mkdtempSync(join(tmpdir(), 'ambit-scope-'));
/** Paths of the watches that are open, and of all lists that were taken. */
const open: string[] = [];
const lists: string[] = [];

beforeAll(async () => {
  ({ running, kubectl } = await startMeshApi());
  const mesh = 'discoverySelectors: [{ matchLabels: { mesh: "on" } }]';
  const metadata = { name: 'istio', namespace: 'istio-system' };
  await kubectl.out(
    ['apply', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { mesh } }),
  );
  await kubectl.out(['label', 'namespace/shop', 'mesh=on']);
  await kubectl.out(['create', 'namespace', 'other']);
  for (const namespace of ['shop', 'other']) {
    await kubectl.out(['create', 'serviceaccount', 'default', '-n', namespace]);
    await kubectl.out(['create', 'service', 'clusterip', 'web', '--tcp=80', '-n', namespace]);
  }
  const token = await kubectl.out(['create', 'token', 'ambit-controller', '-n', 'istio-system']);
  const client = counted(createKubeClient(configOf(running, token.trim())));
  one = await startTestController(running, kubectl, folder, {}, { client });
  await one.controller.whenSynced;
}, 150_000);

afterAll(async () => {
  await one.controller.close();
  await running.api.close();
  kubectl.close();
  rmSync(folder, { recursive: true });
  expect(running.errors).toEqual([]);
}, 150_000);

function configOf({ server, ca }: TestApi, token: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'c', server, caData: Buffer.from(ca).toString('base64') }],
    users: [{ name: 'u', token }],
    contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
    currentContext: 'x',
  });
  return config;
}

function counted(client: KubeClient): KubeClient {
  return {
    ...client,
    request: (request) => {
      if (request.query?.has('limit') === true) lists.push(request.path);
      return client.request(request);
    },
    lines: async function* (request, onActivity) {
      open.push(request.path);
      try {
        yield* client.lines(request, onActivity);
      } finally {
        open.splice(open.indexOf(request.path), 1);
      }
    },
  };
}

/** Namespaces in which a kind is watched; an empty name is the whole cluster. */
function watchedIn(plural: string): string {
  const form = new RegExp(`/v[^/]+(?:/namespaces/([^/]+))?/${plural}$`);
  return open
    .flatMap((path) => form.exec(path)?.[1] ?? (form.test(path) ? '' : []))
    .sort()
    .join();
}

async function becomes(what: () => string | Promise<string>, wanted: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while ((await what()) !== wanted) {
    if (performance.now() > deadline) throw new Error(`timed out: ${wanted}, not ${await what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function get(path: string): Promise<string> {
  const { port } = one.controller.addresses.metrics;
  return (await fetch(`http://127.0.0.1:${port}${path}`)).text();
}

async function compiledServices(): Promise<string> {
  const { service = [] } = JSON.parse(await get('/debug/resources')) as {
    service?: { name: string }[];
  };
  return service
    .map(({ name }) => name)
    .filter((name) => name.includes('web'))
    .sort()
    .join();
}

const scoped = ['pods', 'virtualservices', 'httproutes', 'workloadentries', 'serviceaccounts'];

test('watches are of the namespaces that are in scope, with the rights that the chart gives', async () => {
  for (const plural of scoped) await becomes(() => watchedIn(plural), 'istio-system,shop');
  // Of these the whole cluster's that bear the labels of control planes, too.
  for (const plural of ['services', 'endpointslices'])
    await becomes(() => watchedIn(plural), ',istio-system,shop');
  await becomes(() => watchedIn('namespaces'), '');
  expect(lists.filter((path) => path.includes('/namespaces/other/'))).toEqual([]);
  expect(lists).not.toContain('/api/v1/pods');
  await becomes(compiledServices, 'shop/web.shop.svc.cluster.local');
  expect(await get('/healthz/ready')).toBe('ready\n');
});

test('a namespace that comes in is watched and compiled, and one that is deleted is so no more', async () => {
  await kubectl.out(['label', 'namespace/other', 'mesh=on']);
  const both = 'other/web.other.svc.cluster.local,shop/web.shop.svc.cluster.local';
  await becomes(compiledServices, both);
  for (const plural of scoped) await becomes(() => watchedIn(plural), 'istio-system,other,shop');
  const before = lists.length;
  await kubectl.out(['delete', 'namespace/other', '--wait=false']);
  for (const plural of scoped) await becomes(() => watchedIn(plural), 'istio-system,shop');
  await becomes(compiledServices, 'shop/web.shop.svc.cluster.local');
  expect(lists.slice(before)).toEqual([]);
  expect(one.log.filter(({ message }) => message.startsWith('watch failed'))).toEqual([]);
  const ages = (await get('/metrics')).match(/^ambit_watch_age_seconds\{.*\} \S+$/gm) ?? [];
  expect(ages.filter((line) => Number(line.split(' ').pop()) < 60)).toHaveLength(ages.length);
}, 60_000);

test('without selectors everything is watched at once, and what is compiled stays', async () => {
  await kubectl.out(['delete', 'configmap/istio', '-n', 'istio-system']);
  for (const plural of scoped) await becomes(() => watchedIn(plural), '');
  expect(await compiledServices()).toBe('shop/web.shop.svc.cluster.local');
  expect(await get('/healthz/ready')).toBe('ready\n');
}, 60_000);
