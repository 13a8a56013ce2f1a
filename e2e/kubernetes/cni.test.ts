import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { TourPod } from '@ambit/sandbox';
import { Agents } from '../support/agents.ts';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo, nowAnswers } from '../support/echo.ts';
import { clusterScript, ownClusterTest } from '../support/wire.ts';

/** The node agent and its plugin on real nodes; the rows of acceptance.md by their names. */
let mesh: MeshCluster;
let agents: Agents;

const taint = { key: 'cni.istio.io/not-ready', value: 'true', effect: 'NoSchedule' };

beforeAll(async () => {
  mesh = await startMesh();
  agents = new Agents(mesh);
  for (const namespace of ['shop', 'clients'])
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  for (const object of [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'outside' } },
    ...echo('client', { namespace: 'outside', node: 'node-1' }),
    ...echo('server', { namespace: 'shop', node: 'node-2' }),
  ])
    await mesh.cluster.apply(object);
  await mesh.pod('shop', { app: 'server' });
  const outside = await mesh.pod('outside', { app: 'client' });
  await nowAnswers(mesh, outside, 'server.shop');
  // From here on only who is in the mesh is answered, by who is in it.
  await mesh.cluster.apply({
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: 'default', namespace: 'shop' },
    spec: { mtls: { mode: 'STRICT' } },
  });
  await until(async () => ((await outsider('server')) === undefined ? true : undefined), 60_000);
}, 400_000);

afterAll(async () => {
  await mesh.close();
}, 200_000);

const insider = async (server: string) =>
  askEcho(mesh, await mesh.pod('clients', { app: 'client' }), `${server}.shop`);
const outsider = async (server: string) =>
  askEcho(mesh, await mesh.pod('outside', { app: 'client' }), `${server}.shop`);

async function redirection({ namespace, name }: TourPod): Promise<unknown> {
  const pod = (await mesh.get(`/api/v1/namespaces/${namespace}/pods/${name}`)) as {
    readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
  };
  return pod.metadata.annotations?.['ambient.istio.io/redirection'];
}

async function podOf(namespace: string, app: string): Promise<TourPod> {
  return until(async () =>
    (await mesh.cluster.pods(namespace)).find(({ labels }) => labels.get('app') === app),
  );
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

test('TestTrafficWithEstablishedPodsIfCNIMissing: without an agent pods that are there go on', async () => {
  await agents.takeAway();
  for (let count = 0; count < 10; count += 1) expect(await insider('server')).toBeDefined();
  expect(await outsider('server')).toBeUndefined();
}, 120_000);

test('TestTrafficWithCNIUpgrade: without an agent new pods wait, and start captured once there is one', async () => {
  for (const object of echo('later', { namespace: 'shop', node: 'node-2' }))
    await mesh.cluster.apply(object);
  for (const object of echo('elsewhere', { namespace: 'kube-system', node: 'node-2' }))
    await mesh.cluster.apply(object);
  // Namespaces that are never in the mesh do not wait for it: the agent itself may need what is in them.
  await mesh.pod('kube-system', { app: 'elsewhere' });
  await sleep(5_000);
  const waiting = await podOf('shop', 'later');
  expect(waiting.ready).toBe(false);
  expect(waiting.ip).toBe('');
  await agents.bringBack();
  const started = await until(
    async () =>
      (await mesh.cluster.pods('shop')).find(({ name, ready }) => name === waiting.name && ready),
    120_000,
  );
  expect(await redirection(started)).toBe('enabled');
  await nowAnswers(mesh, await mesh.pod('clients', { app: 'client' }), 'later.shop');
  // By its address, which needs nothing that may come later.
  const outside = await mesh.pod('outside', { app: 'client' });
  expect(await askEcho(mesh, outside, started.ip)).toBeUndefined();
}, 300_000);

test('TestCNIMisconfigHealsOnRestart: an agent with a wrong directory says so, stops the rollout and heals', async () => {
  await agents.setVolume('cni-conf', '/etc/cni/nope.d');
  const broken = await until(async () => {
    for (const { name } of await agents.pods()) {
      const text = await mesh.cluster.logs('istio-system', name).catch(() => '');
      if (text.includes('new pods of this node cannot be captured')) return text;
    }
    return undefined;
  }, 90_000);
  expect(broken).toContain('no CNI configuration in /host/etc/cni/net.d');
  expect((await agents.pods()).filter(({ ready }) => ready)).toHaveLength(1);
  expect(await insider('server')).toBeDefined();
  const checked = await mesh.ctl('check');
  expect(checked.status).toBe(1);
  expect(checked.text).toMatch(/✘ cni-redirect: 1 of 2 ready; .*no CNI configuration in/);
  await agents.setVolume('cni-conf', '/etc/cni/net.d');
  await agents.ready();
  expect(await insider('server')).toBeDefined();
  await until(async () => ((await mesh.ctl('check')).status === 0 ? true : undefined));
}, 300_000);

test('TestCNINeverEnrollsPodsInExcludedNamespaces: a label there changes nothing', async () => {
  const options = { namespace: 'kube-system', node: 'node-2' } as const;
  const labels = { 'istio.io/dataplane-mode': 'ambient' };
  for (const object of echo('excluded', { ...options, labels })) await mesh.cluster.apply(object);
  const pod = await mesh.pod('kube-system', { app: 'excluded' });
  await sleep(3_000);
  expect(await redirection(pod)).toBeUndefined();
  // It speaks in plain text, so the shop does not answer it.
  expect(await askEcho(mesh, pod, 'server.shop')).toBeUndefined();
}, 120_000);

test('TestCNIRestartsWithMissingKubeConfig: what an agent wrote on its node and somebody removed is there again', async () => {
  const remove =
    "const fs=require('fs');const d='/host/opt/cni/bin/';for(const f of fs.readdirSync(d))if(f.startsWith('ambit-cni'))fs.rmSync(d+f,{recursive:true});console.log('removed')";
  const before = await agents.pods();
  for (const { name } of before) {
    const { output } = await mesh.cluster.exec('istio-system', name, ['node', '-e', remove]);
    expect(output).toContain('removed');
  }
  for (const object of echo('after', { namespace: 'shop', node: 'node-2' }))
    await mesh.cluster.apply(object);
  const pod = await until(
    async () =>
      (await mesh.cluster.pods('shop')).find(
        ({ labels, ready }) => labels.get('app') === 'after' && ready,
      ),
    120_000,
  );
  expect(await redirection(pod)).toBe('enabled');
  await nowAnswers(mesh, await mesh.pod('clients', { app: 'client' }), 'after.shop');
}, 200_000);

test('TestTaintsRemoved: a node keeps its taint until its agent is ready, and no longer', async () => {
  const nodes = ['node-1', 'node-2'];
  const right = { apiVersion: 'rbac.authorization.k8s.io/v1', metadata: { name: 'e2e-untaint' } };
  await mesh.apply(
    {
      ...right,
      kind: 'ClusterRole',
      rules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['patch'] }],
    },
    {
      ...right,
      kind: 'ClusterRoleBinding',
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'e2e-untaint' },
      subjects: [{ kind: 'ServiceAccount', name: 'cni-redirect', namespace: 'istio-system' }],
    },
  );
  const tainted = async (): Promise<string[]> => {
    const found = await Promise.all(
      nodes.map(async (name) => {
        const node = (await mesh.get(`/api/v1/nodes/${name}`)) as {
          readonly spec: { readonly taints?: readonly { readonly key: string }[] };
        };
        return (node.spec.taints ?? []).some(({ key }) => key === taint.key) ? [name] : [];
      }),
    );
    return found.flat();
  };
  await agents.takeAway();
  try {
    for (const name of nodes)
      await mesh.patch(`/api/v1/nodes/${name}`, { spec: { taints: [taint] } });
    await agents.setEnv('TAINT_NODE', 'true');
    await sleep(3_000);
    expect(await tainted()).toEqual(nodes);
    await agents.bringBack();
    await until(async () => ((await tainted()).length === 0 ? true : undefined), 30_000);
    // Also while it runs.
    await mesh.patch('/api/v1/nodes/node-1', { spec: { taints: [taint] } });
    await until(async () => ((await tainted()).length === 0 ? true : undefined), 30_000);
  } finally {
    for (const name of nodes) await mesh.patch(`/api/v1/nodes/${name}`, { spec: { taints: null } });
    await agents.setEnv('TAINT_NODE', 'false');
    await agents.bringBack();
    await mesh.clean();
  }
}, 300_000);

ownClusterTest(
  'pods of a node that restarts come back in the mesh, and never outside it',
  async () => {
    const { name, ip } = await mesh.pod('shop', { app: 'server' });
    let over = false;
    let asked = 0;
    const leaks: string[] = [];
    const watcher = (async () => {
      while (!over) {
        const now = (await mesh.cluster.pods('shop')).find((pod) => pod.name === name);
        const client = await mesh.pod('outside', { app: 'client' });
        for (const address of new Set([ip, now?.ip ?? ''])) {
          if (address === '') continue;
          asked += 1;
          const seen = await askEcho(mesh, client, address);
          if (seen?.pod === name) leaks.push(address);
        }
        await sleep(200);
      }
    })();
    try {
      clusterScript('down', 'node-2');
      clusterScript('up');
      await until(async () => {
        const pod = (await mesh.cluster.pods('shop')).find((one) => one.name === name);
        return pod?.ready === true && (await insider('server')) !== undefined ? true : undefined;
      }, 180_000);
      await agents.ready();
    } finally {
      over = true;
      await watcher;
    }
    expect(asked).toBeGreaterThan(3);
    expect(leaks).toEqual([]);
    expect(await redirection(await mesh.pod('shop', { app: 'server' }))).toBe('enabled');
  },
  400_000,
);
