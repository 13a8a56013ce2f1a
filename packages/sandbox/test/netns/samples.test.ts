import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { resources } from '../../src/cluster/store.ts';
import type { KubeObject } from '../../src/cluster/objects.ts';
import { startTestCluster, until, type TestCluster } from './cluster-fixture.ts';

let t: TestCluster;
beforeAll(async () => {
  t = await startTestCluster();
});
afterAll(() => t.close());

test('the sample shop comes up, and its frontend answers both callers with what every service said', async () => {
  const types = new Map(Object.values(resources).map((type) => [type.kind, type]));
  for (const file of ['shop.yaml', 'clients.yaml']) {
    const text = await readFile(join(process.cwd(), 'samples/shop', file), 'utf8');
    for (const document of parseAllDocuments(text)) {
      const object = document.toJS() as KubeObject;
      await t.store.create(types.get(object.kind)! as (typeof resources)['pods'], object as never);
    }
  }
  const deployments = await until(
    async () => {
      const all = await t.store.list(resources.deployments);
      return all.length === 8 && all.every((d) => d.status?.availableReplicas === 1) && all;
    },
    20_000,
    async () =>
      (await t.store.list(resources.pods)).map((p) => [
        p.metadata.name,
        p.status?.phase,
        p.status?.containerStatuses?.[0]?.state,
      ]),
  );
  expect(deployments.map((d) => d.metadata.name)).toContain('reviews-v2');
  await t.cluster.sync();
  const pods = await t.store.list(resources.pods);
  for (const name of ['client', 'stranger']) {
    const pod = pods.find((p) => p.metadata.labels?.['app'] === name)!;
    const worker = t.cluster.nodes
      .map((n) => n.kubelet.worker('clients', pod.metadata.name))
      .find((w) => w !== undefined);
    const command = [
      'curl',
      '-s',
      '-S',
      '-m',
      '8',
      '-w',
      ' [status %{http_code}]',
      'http://frontend.shop:8080/?q=1',
    ];
    const { output } = await worker!.container(name)!.exec(command, 10_000);
    expect(output).toMatch(/ \[status 200\]$/);
    const answer = JSON.parse(output.slice(0, output.lastIndexOf(' ['))) as Record<string, unknown>;
    expect(answer).toMatchObject({
      service: 'frontend',
      catalog: { service: 'catalog', reviews: { service: 'reviews' } },
      cart: { stock: expect.stringMatching(/^lamp 7 inventory-/) },
    });
    expect(pod.status?.podIPs?.map(({ ip }) => ip)).toContain(answer['caller']);
  }
}, 40_000);
