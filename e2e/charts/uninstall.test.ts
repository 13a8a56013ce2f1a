import { createKubeClient } from '@ambit/controller';
import type { KubeClient } from '@ambit/controller';
import { createLogger } from '@ambit/core';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { KubeConfig } from '@kubernetes/client-node';
import type { UninstallConfig } from '../../packages/controller/src/uninstall/config.ts';
import { releasePods } from '../../packages/controller/src/uninstall/release.ts';
import { removeTraces } from '../../packages/controller/src/uninstall/remove.ts';
import type { TestApi } from '../../packages/sandbox/test/support/api-server.ts';
import { startTestApi } from '../../packages/sandbox/test/support/api-server.ts';

/** What helm runs before it uninstalls the mesh and after, against an API server. */
let running: TestApi;
let client: KubeClient;
const root = 'istio-system';
const sets = `/apis/apps/v1/namespaces/${root}/daemonsets`;
const lines: string[] = [];
const log = createLogger({
  scope: 'uninstall',
  level: 'warn',
  format: 'text',
  sink: { write: (line) => lines.push(line) },
});

beforeEach(async () => {
  lines.length = 0;
  running = await startTestApi();
  const { server, ca, api } = running;
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: 'c', server, skipTLSVerify: false, caData: Buffer.from(ca).toString('base64') },
    { name: 'u', token: api.tokens.adminToken },
  );
  client = createKubeClient(config);
  for (const name of [root, 'shop']) await create('/api/v1/namespaces', 'Namespace', { name });
  const labels = { app: 'cni-redirect' };
  const template = { metadata: { labels }, spec: { containers: [{ name: 'agent', image: 'a' }] } };
  const spec = { selector: { matchLabels: labels }, template };
  await create(sets, 'DaemonSet', { name: 'cni-redirect' }, { spec });
}, 30_000);

afterEach(async () => {
  client.close();
  await running.api.close();
});

function create(
  path: string,
  kind: string,
  metadata: Readonly<Record<string, unknown>>,
  rest: object = {},
): Promise<unknown> {
  const apiVersion = path.startsWith('/apis/')
    ? path.split('/').slice(2, 4).join('/')
    : 'v1';
  return client.request({ method: 'POST', path, body: { apiVersion, kind, metadata, ...rest } });
}

async function names(path: string): Promise<string[]> {
  const { items } = (await client.request({ path })) as {
    items: { metadata: { name: string } }[];
  };
  return items.map(({ metadata }) => metadata.name).sort();
}

async function agent(name: string, nodeName: string): Promise<string> {
  const pods = `/api/v1/namespaces/${root}/pods`;
  const spec = { nodeName, containers: [{ name: 'agent', image: 'a' }] };
  await create(pods, 'Pod', { name, labels: { app: 'cni-redirect' } }, { spec });
  await patch(`${pods}/${name}/status`, { status: { phase: 'Running' } });
  return `${pods}/${name}`;
}

function patch(path: string, body: object): Promise<unknown> {
  return client.request({
    method: 'PATCH',
    path,
    body,
    contentType: 'application/merge-patch+json',
  });
}

const options = (
  change: Partial<UninstallConfig> = {},
  signal: AbortSignal = new AbortController().signal,
) => ({
  client,
  log,
  rootNamespace: root,
  revision: 'default',
  defaultRevision: 'default',
  keepAuthority: false,
  timeoutMs: 5_000,
  signal,
  ...change,
});

/** Whether the agents are asked to leave. */
async function asked(): Promise<boolean> {
  const set = (await client.request({ path: `${sets}/cni-redirect` })) as {
    metadata: { annotations?: Record<string, string> };
  };
  return set.metadata.annotations?.['ambit.dev/leaving'] === 'true';
}

async function node(name: string, ready: 'True' | 'False' | 'Unknown'): Promise<void> {
  await create('/api/v1/nodes', 'Node', { name });
  const conditions = [{ type: 'Ready', status: ready, reason: 'r', message: 'm' }];
  await patch(`/api/v1/nodes/${name}/status`, { status: { conditions } });
}

const shopPods = '/api/v1/namespaces/shop/pods';

async function captured(name: string, nodeName: string): Promise<void> {
  const annotations = { 'ambient.istio.io/redirection': 'enabled' };
  const spec = { nodeName, containers: [{ name: 'app', image: 'a' }] };
  await create(shopPods, 'Pod', { name, annotations }, { spec });
  await patch(`${shopPods}/${name}/status`, { status: { phase: 'Running' } });
}

test('before the programs go, every agent that runs has to say that it has left', async () => {
  await node('node-1', 'True');
  await node('node-2', 'False');
  const first = await agent('cni-redirect-a', 'node-1');
  const second = await agent('cni-redirect-b', 'node-2');
  let over = false;
  const released = releasePods(options()).then(() => (over = true));
  const left = { metadata: { annotations: { 'ambit.dev/left': 'true' } } };
  await patch(first, left);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(over).toBe(false);
  expect(await asked()).toBe(true);
  await patch(second, left);
  await released;
  // What asks the agents goes with them: there is nothing to take away before the next install.
  expect(await asked()).toBe(true);
});

test('an agent that does not answer is named, with what to do, and the rest is called off', async () => {
  await node('node-1', 'True');
  await agent('cni-redirect-a', 'node-1');
  await expect(releasePods(options({ timeoutMs: 100 }))).rejects.toThrow(
    /have not released their pods: cni-redirect-a on node-1; see their logs.*--no-hooks/s,
  );
  // Nothing is uninstalled: those that were quick take their pods back.
  expect(await asked()).toBe(false);
});

test('who ends before it is done calls it off', async () => {
  await node('node-1', 'True');
  await agent('cni-redirect-a', 'node-1');
  const ended = new AbortController();
  const released = releasePods(options({}, ended.signal));
  setTimeout(() => ended.abort(), 300);
  await expect(released).rejects.toThrow(/ended before/);
  expect(await asked()).toBe(false);
});

test('agents on nodes that are dead or gone are not waited for, and those nodes are named', async () => {
  await node('node-1', 'Unknown');
  await agent('cni-redirect-a', 'node-1');
  await agent('cni-redirect-b', 'node-gone');
  await releasePods(options());
  expect(lines.join('')).toMatch(/cni-redirect-a on node-1.*cni-redirect-b on node-gone/);
});

test('a node whose pods are captured and on which no agent runs is told, and the rest is called off', async () => {
  for (const name of ['node-1', 'node-2', 'node-3']) await node(name, name === 'node-3' ? 'Unknown' : 'True');
  const left = { metadata: { annotations: { 'ambit.dev/left': 'true' } } };
  await patch(await agent('cni-redirect-a', 'node-1'), left);
  const waits = await agent('cni-redirect-b', 'node-2');
  await patch(`${waits}/status`, { status: { phase: 'Pending' } });
  await captured('far', 'node-3');
  // Of a node that has left it is an old word.
  await captured('old', 'node-1');
  await captured('cart', 'node-2');
  await expect(releasePods(options({ timeoutMs: 100 }))).rejects.toThrow(
    /pods such as shop\/cart on node-2 are still captured, and no agent runs there/,
  );
  expect(await asked()).toBe(false);
  // One that ends is gone in a moment.
  await client.request({ method: 'DELETE', path: `${shopPods}/cart` });
  await releasePods(options());
});

test('without a DaemonSet there is nobody to ask', async () => {
  await client.request({ method: 'DELETE', path: `${sets}/cni-redirect` });
  await releasePods(options());
});

test('without a DaemonSet captured pods are not left alone, but for those on dead nodes', async () => {
  await client.request({ method: 'DELETE', path: `${sets}/cni-redirect` });
  await node('node-1', 'True');
  await node('node-2', 'Unknown');
  await captured('far', 'node-2');
  await releasePods(options());
  await captured('cart', 'node-1');
  await expect(releasePods(options())).rejects.toThrow(
    /cni-redirect was deleted, and pods such as shop\/cart on node-1 are still captured.*helm rollback/s,
  );
  await patch(`${shopPods}/cart/status`, { status: { phase: 'Succeeded' } });
  await releasePods(options());
});

/** What the controller makes, and what looks like it and is its users'. */
async function furnish(): Promise<void> {
  const managed = { 'gateway.istio.io/managed': 'ambit.dev-mesh-controller' };
  const shop = '/api/v1/namespaces/shop';
  const own = `/api/v1/namespaces/${root}`;
  await create(`${shop}/services`, 'Service', { name: 'waypoint', labels: managed }, port());
  await create(`${shop}/services`, 'Service', { name: 'frontend' }, port());
  await create(`${shop}/serviceaccounts`, 'ServiceAccount', { name: 'waypoint', labels: managed });
  const roots = { name: 'istio-ca-root-cert', labels: { 'istio.io/config': 'true' } };
  await create(`${shop}/configmaps`, 'ConfigMap', roots);
  await create(`${shop}/configmaps`, 'ConfigMap', { ...roots, name: 'mine' });
  await create(`${own}/configmaps`, 'ConfigMap', { name: 'ambit-authority' });
  for (const name of ['istio-ca-secret', 'cacerts']) await create(`${own}/secrets`, 'Secret', { name });
  const leases = `/apis/coordination.k8s.io/v1/namespaces/${root}/leases`;
  for (const name of ['ambit-controller', 'other']) await create(leases, 'Lease', { name });
}

function port(): object {
  return { spec: { ports: [{ port: 80 }] } };
}

test('after the programs went, what the controller made goes, and nothing else', async () => {
  await furnish();
  await removeTraces(options());
  expect(await names('/api/v1/namespaces/shop/services')).toEqual(['frontend']);
  expect(await names('/api/v1/namespaces/shop/serviceaccounts')).not.toContain('waypoint');
  expect(await names('/api/v1/namespaces/shop/configmaps')).toEqual(['mine']);
  expect(await names(`/api/v1/namespaces/${root}/secrets`)).toEqual(['cacerts']);
  expect(await names(`/api/v1/namespaces/${root}/configmaps`)).not.toContain('ambit-authority');
  expect(await names(`/apis/coordination.k8s.io/v1/namespaces/${root}/leases`)).toEqual(['other']);
});

test('a controller on a dead node is not waited for', async () => {
  await node('node-1', 'Unknown');
  const pods = `/api/v1/namespaces/${root}/pods`;
  const spec = { nodeName: 'node-1', containers: [{ name: 'controller', image: 'a' }] };
  await create(pods, 'Pod', { name: 'c', labels: { app: 'ambit-controller' } }, { spec });
  await removeTraces(options({ timeoutMs: 60_000 }));
  expect(lines).toEqual([]);
});

test('the authority is kept for who asks for it', async () => {
  await furnish();
  await removeTraces(options({ keepAuthority: true }));
  expect(await names(`/api/v1/namespaces/${root}/secrets`)).toEqual(['cacerts', 'istio-ca-secret']);
  expect(await names(`/api/v1/namespaces/${root}/configmaps`)).toContain('ambit-authority');
});
