import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import type { TourPod } from '@ambit/sandbox';
import { Agents } from '../support/agents.ts';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo, nowAnswers } from '../support/echo.ts';
import { restart } from '../support/rollout.ts';
import { NodeTaints } from '../support/node-taints.ts';
import { clusterScript, ownClusterTest, ownMachineTest } from '../support/wire.ts';

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

/** Whatever failed, what comes next finds agents that run as they were installed. */
afterEach(async () => {
  await agents.restore();
}, 150_000);

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

test('TestTrafficWithEstablishedPodsIfCNIMissing: with the agents deleted pods that are there go on in the mesh, and new ones wait', async () => {
  await agents.deleteSet();
  for (let count = 0; count < 10; count += 1) expect(await insider('server')).toBeDefined();
  expect(await outsider('server')).toBeUndefined();
  expect(await redirection(await mesh.pod('shop', { app: 'server' }))).toBe('enabled');
  for (const object of echo('meanwhile', { namespace: 'shop', node: 'node-2' }))
    await mesh.cluster.apply(object);
  const { name } = await podOf('shop', 'meanwhile');
  await sleep(8_000);
  const waiting = (await mesh.cluster.pods('shop')).find((pod) => pod.name === name);
  expect(waiting).toMatchObject({ ready: false, ip: '' });
  await agents.restore();
  const started = await until(
    async () => (await mesh.cluster.pods('shop')).find((pod) => pod.name === name && pod.ready),
    120_000,
  );
  expect(await redirection(started)).toBe('enabled');
  await nowAnswers(mesh, await mesh.pod('clients', { app: 'client' }), 'meanwhile.shop');
  expect(await outsider('server')).toBeUndefined();
}, 300_000);

test('TestTrafficWithCNIUpgrade: without an agent new pods wait, and start captured once there is one', async () => {
  await agents.takeAway();
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

test('a rolling update of the agents: each node always has one that is ready, and no pod that starts is refused', async () => {
  const nodes = ['node-1', 'node-2'] as const;
  const before = new Set((await agents.pods()).map(({ name }) => name));
  let over = false;
  const without: string[] = [];
  const watching = (async () => {
    while (!over) {
      const ready = (await agents.pods()).filter((pod) => pod.ready).map(({ node }) => node);
      without.push(...nodes.filter((node) => !ready.includes(node)));
      await sleep(200);
    }
  })();
  const starts = nodes.map(async (node) => {
    let count = 0;
    for (; !over; count += 1) {
      const app = `starts-${node}-${count}`;
      for (const object of echo(app, { namespace: 'shop', node })) await mesh.cluster.apply(object);
      expect(await redirection(await mesh.pod('shop', { app }))).toBe('enabled');
    }
    return count;
  });
  const rolling = restart(mesh, {
    kind: 'DaemonSet',
    namespace: 'istio-system',
    name: 'cni-redirect',
  });
  await rolling.finally(() => (over = true));
  const counts = await Promise.all(starts);
  await watching;
  expect(Math.min(...counts)).toBeGreaterThan(0);
  expect((await agents.pods()).filter(({ name }) => before.has(name))).toEqual([]);
  expect(without).toEqual([]);
  const { items } = (await mesh.get('/api/v1/namespaces/shop/events')) as {
    readonly items: readonly {
      readonly reason: string;
      readonly message: string;
      readonly involvedObject: { readonly name: string };
    }[];
  };
  const refused = items.filter(
    ({ reason, involvedObject }) =>
      reason === 'FailedCreatePodSandBox' && involvedObject.name.startsWith('starts-'),
  );
  expect(refused.map(({ message }) => message)).toEqual([]);
  for (const node of nodes)
    await nowAnswers(mesh, await mesh.pod('clients', { app: 'client' }), `starts-${node}-0.shop`);
}, 300_000);

test('TestCNIMisconfigHealsOnRestart: a new agent with a wrong directory says so and never gets its node, and the rollout stops', async () => {
  const before = (await agents.pods()).map(({ name }) => name);
  // In a folder of the agent's own, where it can be taken away again.
  await agents.setVolume('cni-conf', '/var/run/istio-cni/nope.d');
  const broken = await until(async () => {
    for (const { name } of await agents.pods()) {
      const text = await mesh.cluster.logs('istio-system', name).catch(() => '');
      if (text.includes('this agent cannot take its node over yet')) return { name, text };
    }
    return undefined;
  }, 90_000);
  expect(broken.text).toContain('no CNI configuration in /host/etc/cni/net.d');
  await sleep(5_000);
  const now = await agents.pods();
  const ready = now.filter((pod) => pod.ready).map(({ name }) => name);
  expect(ready.sort()).toEqual(before.sort());
  expect(now).toHaveLength(before.length + 1);
  const { text } = await mesh.ctl('check');
  expect(text).toMatch(
    new RegExp(
      `! cni-redirect: ${before.length} of ${before.length} ready; ${broken.name} on .* has not taken it over; its log says why`,
    ),
  );
  // The node has its agent all the same.
  for (const node of ['node-1', 'node-2'] as const) {
    const app = `beside-${node}`;
    for (const object of echo(app, { namespace: 'shop', node })) await mesh.cluster.apply(object);
    expect(await redirection(await mesh.pod('shop', { app }))).toBe('enabled');
  }
  await agents.restore();
  expect(await insider('server')).toBeDefined();
  await until(async () => ((await mesh.ctl('check')).status === 0 ? true : undefined));
  const remove =
    "const fs=require('fs');const d='/var/run/istio-cni/nope.d';if(fs.existsSync(d))fs.rmdirSync(d)";
  for (const { name } of await agents.pods())
    await mesh.cluster.exec('istio-system', name, ['node', '-e', remove]);
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

/** A process of a pod, as the machine sees it. */
function processOf(pod: string): number {
  const found = readdirSync('/proc').filter((name) => {
    try {
      const environ = readFileSync(`/proc/${name}/environ`, 'latin1').split('\0');
      return /^\d+$/.test(name) && environ.includes(`HOSTNAME=${pod}`);
    } catch {
      return false;
    }
  });
  if (found[0] === undefined) throw new Error(`no process of ${pod}`);
  return Number(found[0]);
}

ownMachineTest(
  'rules that somebody flushes in a captured pod are put back, and told',
  async () => {
    const { name, node } = await mesh.pod('shop', { app: 'server' });
    const agent = (await agents.pods()).find((one) => one.node === node && one.ready);
    if (agent === undefined) throw new Error(`no agent on ${node}`);
    const flush = ['nft', 'flush', 'table', 'inet', 'ambit'];
    execFileSync('nsenter', ['-t', String(processOf(name)), '-n', '--', ...flush]);
    const told = await until(async () => {
      const text = await mesh.cluster.logs('istio-system', agent.name);
      return /capture of a pod was lost.*changed/.test(text) ? text : undefined;
    }, 90_000);
    expect(told).not.toContain('changed rules of pods go unnoticed');
    await until(async () => ((await outsider('server')) === undefined ? true : undefined), 30_000);
    expect(await insider('server')).toBeDefined();
  },
  200_000,
);

/** As the chart gives it with `taint.enabled`. */
const mayTaint = [
  {
    kind: 'ClusterRole',
    rules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['patch'] }],
  },
  {
    kind: 'ClusterRoleBinding',
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'e2e-taint' },
    subjects: [{ kind: 'ServiceAccount', name: 'cni-redirect', namespace: 'istio-system' }],
  },
].map((object) => ({
  apiVersion: 'rbac.authorization.k8s.io/v1',
  metadata: { name: 'e2e-taint' },
  ...object,
}));

/** Agents that taint their nodes, for as long as `work` goes on. */
async function tainting(work: (taints: NodeTaints, nodes: string[]) => Promise<void>) {
  const taints = new NodeTaints(mesh, taint);
  const nodes = await agents.nodes();
  try {
    await mesh.apply(...mayTaint);
    await work(taints, nodes);
  } finally {
    await agents.restore();
    await taints.take(nodes);
    await mesh.clean();
  }
}

test('TestTaintsRemoved: a node keeps its taint until its agent is ready, and no longer', async () => {
  await tainting(async (taints, nodes) => {
    const untainted = () =>
      until(async () => ((await taints.among(nodes)).length === 0 ? true : undefined), 60_000);
    await agents.takeAway();
    await taints.put(nodes);
    await agents.setEnv('TAINT_NODE', 'true');
    await sleep(3_000);
    expect(await taints.among(nodes)).toEqual(nodes);
    await agents.bringBack();
    await untainted();
    // Also while it runs.
    await taints.put(nodes.slice(0, 1));
    await untainted();
    // An agent that is replaced puts it on no more.
    let seen = 0;
    let over = false;
    const watcher = (async () => {
      while (!over) {
        seen += (await taints.among(nodes)).length;
        await sleep(100);
      }
    })();
    try {
      await agents.setEnv('E2E_AGAIN', 'true');
      await agents.ready();
    } finally {
      over = true;
      await watcher;
    }
    expect(seen).toBe(0);
  });
}, 300_000);

ownClusterTest(
  'pods of a node that restarts come back in the mesh, and never outside it; the node is tainted until then',
  () => tainting(restartOfNode),
  500_000,
);

async function restartOfNode(taints: NodeTaints): Promise<void> {
  await agents.setEnv('TAINT_NODE', 'true');
  await agents.ready();
  const { name, ip } = await mesh.pod('shop', { app: 'server' });
  const outside = await mesh.pod('outside', { app: 'client' });
  const now = async () => (await mesh.cluster.pods('shop')).find((pod) => pod.name === name);
  const leaks: string[] = [];
  let over = false;
  let asked = 0;
  let wasTainted = false;
  const always = async (look: () => Promise<void>): Promise<void> => {
    while (!over) {
      await look();
      await sleep(100);
    }
  };
  const watchers = [
    always(async () => {
      for (const address of new Set([ip, (await now())?.ip ?? ''])) {
        if (address === '') continue;
        asked += 1;
        if ((await askEcho(mesh, outside, address))?.pod === name) leaks.push(address);
      }
    }),
    always(async () => void (wasTainted ||= await taints.has('node-2'))),
  ];
  try {
    await clusterScript('down', 'node-2');
    await clusterScript('up');
    await until(
      async () => ((await now())?.ready === true && (await insider('server'))) || undefined,
      180_000,
    );
    await agents.ready();
  } finally {
    over = true;
    await Promise.all(watchers);
  }
  expect(asked).toBeGreaterThan(3);
  expect(leaks).toEqual([]);
  expect(await redirection(await mesh.pod('shop', { app: 'server' }))).toBe('enabled');
  expect(wasTainted).toBe(true);
  await until(async () => ((await taints.has('node-2')) ? undefined : true), 30_000);
}
