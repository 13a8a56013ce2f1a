import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo, nowAnswers } from '../support/echo.ts';
import { clusterName, ownNode } from '../support/wire.ts';

/** A NetworkPolicy that admits nothing but the mesh's own port, in a real Kubernetes. */
let mesh: MeshCluster;

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients'])
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  for (const object of [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'outside' } },
    ...echo('client', { namespace: 'outside', node: 'node-1' }),
    ...echo('far', { namespace: 'shop', node: 'node-2' }),
    ...echo('near', { namespace: 'shop', node: 'node-1' }),
  ])
    await mesh.cluster.apply(object);
  for (const app of ['far', 'near']) await mesh.pod('shop', { app });
  await mesh.pod('outside', { app: 'client' });
}, 300_000);

afterAll(async () => {
  for (const node of ['node-1', 'node-2'] as const) enforce(node, []);
  await mesh.close();
}, 200_000);

/** In the cluster of this project nobody enforces NetworkPolicies: what an engine would write is written by hand. */
function enforce(node: 'node-1' | 'node-2', addresses: readonly string[]): void {
  if (clusterName === undefined) return;
  const rules =
    addresses.length === 0
      ? 'add table ip network-policy\ndelete table ip network-policy\n'
      : `add table ip network-policy
delete table ip network-policy
table ip network-policy {
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state established,related accept
    ip daddr { ${addresses.join(', ')} } tcp dport != 15008 drop
  }
}
`;
  const [command, ...args] = ownNode(node, ['nft', '-f', '-']);
  const done = spawnSync(command ?? '', args, { input: rules, encoding: 'utf8' });
  if (done.status !== 0) throw new Error(done.stderr);
}

test('TestK8sNetPol: where only 15008 is admitted, the mesh speaks, and nobody else does', async () => {
  const policy = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'only-hbone', namespace: 'shop' },
    spec: {
      podSelector: {},
      policyTypes: ['Ingress'],
      ingress: [{ ports: [{ protocol: 'TCP', port: 15_008 }] }],
    },
  };
  const insider = await mesh.pod('clients', { app: 'client' });
  const outsider = await mesh.pod('outside', { app: 'client' });
  const servers = ['far', 'near'] as const;
  for (const server of servers) {
    await nowAnswers(mesh, insider, `${server}.shop`);
    await nowAnswers(mesh, outsider, `${server}.shop`);
  }
  await mesh.apply(policy);
  for (const server of servers) {
    const pod = await mesh.pod('shop', { app: server });
    enforce(server === 'far' ? 'node-2' : 'node-1', [pod.ip]);
  }
  for (const server of servers) {
    await until(async () =>
      (await askEcho(mesh, outsider, `${server}.shop`)) === undefined ? true : undefined,
    );
    const seen = await askEcho(mesh, insider, `${server}.shop`);
    expect(seen?.caller).toBe(insider.ip);
    // By its address, too, and the other way round.
    const pod = await mesh.pod('shop', { app: server });
    expect((await askEcho(mesh, insider, pod.ip))?.pod).toBe(pod.name);
    expect(await askEcho(mesh, outsider, pod.ip)).toBeUndefined();
    expect(await askEcho(mesh, pod, 'client.outside')).toBeDefined();
  }
  // The kubelet's probes come in: the pods are ready still.
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  for (const server of servers) expect((await mesh.pod('shop', { app: server })).ready).toBe(true);
}, 120_000);
