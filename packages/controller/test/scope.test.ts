import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import { createSources } from '../src/collections/sources.ts';
import type { Sources } from '../src/collections/sources.ts';
import type { NamespaceRecord } from '../src/kube/decode/namespace.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { followScope } from '../src/kube/scope.ts';
import { limitOfMany } from '../src/kube/watch-plan.ts';
import type { Watches } from '../src/kube/watches.ts';
import { startWatches } from '../src/kube/watches.ts';
import { startController } from '../src/app.ts';
import { clientOf, fastTimings, memoryLog, testConfig, until } from './support.ts';

const timings = { ...fastTimings, stallMs: 60_000 };
const root = 'istio-system';
const pods = '/api/v1/pods';
const services = '/api/v1/services';
const namespaces = '/api/v1/namespaces';
const configMaps = '/api/v1/configmaps';
const isSelected = ([, { meta }]: readonly [string, NamespaceRecord]) => meta.labels.has('mesh');
const selectMesh = 'discoverySelectors: [{ matchLabels: { mesh: "on" } }]';

describe('with discovery selectors', () => {
  let fake: FakeKube;
  let client: KubeClient;
  let sources: Sources;
  let watches: Watches;
  const log = memoryLog();
  const putNamespace = (name: string, selected: boolean) =>
    fake.put(namespaces, { metadata: { name, labels: selected ? { mesh: 'on' } : {} } });
  const putPod = (namespace: string, name: string, node = 'n') =>
    fake.put(pods, { metadata: { namespace, name }, spec: { nodeName: node } });
  const configure = (mesh: string) =>
    fake.put(configMaps, { metadata: { name: 'istio', namespace: root }, data: { mesh } });
  const start = async (): Promise<void> => {
    sources = createSources();
    const scope = followScope(sources, root);
    const options = { client, sources, scope, rootNamespace: root, log, timings };
    watches = startWatches({ ...options, onChange: () => undefined });
    await watches.whenSynced;
  };
  const held = () => [...sources.pods.entries()].map(([key]) => key).sort();
  const holds = (...keys: readonly string[]) =>
    until(() => held().join() === keys.join(), `${keys.join()}, not ${held().join()}`);

  beforeEach(async () => {
    fake = await FakeKube.start();
    client = clientOf(fake);
    putNamespace(root, false);
    putNamespace('in', true);
    putNamespace('out', false);
    putPod(root, 'ztunnel');
    putPod('in', 'a');
    putPod('out', 'b');
  });
  afterEach(async () => {
    await watches.close();
    client.close();
    await fake.close();
  });

  test('what is out of scope is never held, nor even decoded; the root namespace always is', async () => {
    const broken = { spec: { clusterIPs: ['no address'] } };
    fake.put(services, { metadata: { namespace: 'in', name: 'broken' }, ...broken });
    fake.put(services, { metadata: { namespace: 'out', name: 'broken' }, ...broken });
    configure(selectMesh);
    const everHeld: string[] = [];
    const started = start();
    sources.pods.onChange((key) => everHeld.push(key));
    await started;
    putPod('out', 'c');
    putPod('in', 'd');
    await holds('in/a', 'in/d', `${root}/ztunnel`);
    expect(everHeld.filter((key) => key.startsWith('out/'))).toEqual([]);
    expect(watches.problems().map(({ object }) => object)).toEqual(['Service in/broken']);
  });

  test.each([
    ['selectors', 'discoverySelectors: [{ matchLabels: 5 }]', 'discoverySelectors'],
    ['YAML', 'discoverySelectors: [', 'data.mesh'],
  ])('wrong %s at the first read: nothing is until they are right', async (_what, mesh, told) => {
    configure(mesh);
    const started = start();
    const asks = () =>
      fake.requests.filter(({ path, watch }) => path.endsWith('/configmaps') && !watch).length;
    await until(() => asks() > 4, 'that it is asked for again');
    expect([watches.synced, held(), sources.meshConfig.size]).toEqual([false, [], 0]);
    const why = watches.awaited().find((one) => one.startsWith('ConfigMap ('));
    expect(why).toContain(`ConfigMap ${root}/istio: data.mesh`);
    expect(why).toContain(told);
    expect(JSON.stringify(log.lines.map(({ level }) => level))).toContain('warn');
    configure(selectMesh);
    await started;
    expect([held(), watches.awaited()]).toEqual([['in/a', `${root}/ztunnel`], []]);
    configure(mesh);
    putPod('in', 'z');
    await holds('in/a', 'in/z', `${root}/ztunnel`);
  });

  test('what must not be read is awaited with the words of the API server, until it may be', async () => {
    configure(selectMesh);
    const message = 'pods is forbidden: User "u" cannot list resource "pods"';
    fake.intercept = ({ url }) =>
      url.pathname.endsWith('/pods')
        ? { status: 403, body: { kind: 'Status', code: 403, reason: 'Forbidden', message } }
        : undefined;
    const started = start();
    await until(() => watches.awaited().join().includes('Pod ('), 'the reason');
    expect(watches.awaited().join()).toContain(message);
    fake.intercept = undefined;
    await started;
    expect(watches.awaited()).toEqual([]);
  });

  test('without any, everything is held', async () => {
    await start();
    expect(held()).toEqual(['in/a', `${root}/ztunnel`, 'out/b']);
  });

  test('of Namespaces and Nodes only metadata is asked for, in lists and watches', async () => {
    await start();
    const form = (path: string, watch: boolean) =>
      /as=(\w+)/.exec(
        fake.requests.find((one) => one.path === path && one.watch === watch)?.accept ?? '',
      )?.[1];
    for (const path of [namespaces, '/api/v1/nodes']) {
      expect(form(path, false)).toBe('PartialObjectMetadataList');
      await until(() => form(path, true) === 'PartialObjectMetadata', `the watch of ${path}`);
    }
    expect(form(pods, false)).toBeUndefined();
  });

  test('a namespace that comes in by a label is read', async () => {
    configure(selectMesh);
    await start();
    putNamespace('out', true);
    await holds('in/a', `${root}/ztunnel`, 'out/b');
    putPod('out', 'c');
    await holds('in/a', `${root}/ztunnel`, 'out/b', 'out/c');
  });

  test('one that goes out is dropped, and comes again as it is by then', async () => {
    configure(selectMesh);
    await start();
    putNamespace('in', false);
    await holds(`${root}/ztunnel`);
    putPod('in', 'new');
    fake.delete(pods, 'in/a');
    putPod(root, 'mark');
    await holds(`${root}/mark`, `${root}/ztunnel`);
    putNamespace('in', true);
    await holds('in/new', `${root}/mark`, `${root}/ztunnel`);
  });

  test('other selectors, and none any more, are followed', async () => {
    configure(selectMesh);
    await start();
    configure(
      'discoverySelectors: [{ matchExpressions: [{ key: mesh, operator: DoesNotExist }] }]',
    );
    await holds(`${root}/ztunnel`, 'out/b');
    fake.delete(configMaps, `${root}/istio`);
    await holds('in/a', `${root}/ztunnel`, 'out/b');
  });

  test('bad selectors are told, and the last good ones stay', async () => {
    configure(selectMesh);
    await start();
    configure('discoverySelectors: [{ matchExpressions: [{ key: mesh, operator: Is }] }]');
    const problems = () => sources.meshConfig.get(`${root}/istio`)?.problems ?? [];
    await until(() => problems().length > 0, 'a problem');
    expect(problems()[0]?.field).toBe(
      'data.mesh: discoverySelectors[0].matchExpressions[0].operator',
    );
    const warned = log.lines.filter(({ level }) => level === 'warn');
    expect(warned.map(({ message }) => message)).toContain('not taken from the mesh configuration');
    expect(held()).toEqual(['in/a', `${root}/ztunnel`]);
  });

  test('another control plane is seen wherever it is, and is no Service of the mesh', async () => {
    configure(selectMesh);
    const slices = '/apis/discovery.k8s.io/v1/endpointslices';
    const slice = (name: string, ready: boolean) =>
      fake.put(slices, {
        metadata: {
          namespace: 'out',
          name: `x-${name}`,
          labels: { 'kubernetes.io/service-name': name },
        },
        addressType: 'IPv4',
        endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready } }],
      });
    fake.put(services, {
      metadata: { namespace: 'out', name: 'istiod-old', labels: { app: 'istiod' } },
    });
    fake.put(services, { metadata: { namespace: 'out', name: 'other' } });
    slice('istiod-old', true);
    slice('istiod-new', true);
    slice('other', true);
    await start();
    const keys = (of: 'controlPlanes' | 'controlPlaneEndpoints' | 'services') =>
      [...sources[of].entries()].map(([key]) => key).sort();
    expect(keys('controlPlanes')).toEqual(['out/istiod-old']);
    expect(keys('controlPlaneEndpoints')).toEqual(['out/x-istiod-old']);
    fake.put(services, {
      metadata: { namespace: 'out', name: 'istiod-new', labels: { app: 'istiod' } },
    });
    await until(() => keys('controlPlaneEndpoints').length === 2, 'the endpoints of the new one');
    slice('istiod-old', false);
    const ready = () =>
      sources.controlPlaneEndpoints.get('out/x-istiod-old')?.endpoints.some((one) => one.ready);
    await until(() => ready() === false, 'that the old one is not ready');
    fake.delete(services, 'out/istiod-new');
    await until(() => keys('controlPlaneEndpoints').join() === 'out/x-istiod-old', 'the old one');
    expect(keys('services')).toEqual([]);
  });

  test.each([
    ['a few namespaces', 4],
    ['as many as make watches go wide and narrow again', 30],
  ])(
    'any order of labels, pods and lost watches ends in what is selected: %s',
    async (_what, many) => {
      configure(selectMesh);
      await start();
      let state = 7;
      const random = (below: number): number => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return (state >>> 8) % below;
      };
      const names = ['in', 'out', ...Array.from({ length: many - 2 }, (_, index) => `x-${index}`)];
      const selected = new Set(['in', root]);
      const known = () => 1 + [...sources.namespaces.entries()].filter(isSelected).length;
      for (let step = 0; step < 300; step += 1) {
        const name = names[random(names.length)] ?? '';
        const what = random(10);
        if (what < 2) {
          if (!selected.delete(name)) selected.add(name);
          putNamespace(name, selected.has(name));
        } else if (what < 3) {
          const count = random(names.length);
          for (const [index, one] of names.entries()) {
            if (index < count) selected.add(one);
            else selected.delete(one);
            putNamespace(one, index < count);
          }
          await until(() => known() === selected.size, 'that it is known');
        } else if (what < 7) putPod(name, `p-${random(5)}`, `n-${step}`);
        else if (what < 8) fake.delete(pods, `${name}/p-${random(5)}`);
        else if (what < 9) fake.dropWatches();
        else fake.compact();
        if (random(4) === 0) await new Promise((resolve) => setTimeout(resolve, random(10)));
      }
      selected.add('in');
      putNamespace('in', true);
      putPod('in', 'last');
      const wanted = () =>
        fake
          .list(pods)
          .filter(({ metadata }) => selected.has(metadata.namespace ?? ''))
          .map(({ metadata, spec }) => {
            const { nodeName } = spec as { nodeName: string };
            return `${metadata.namespace}/${metadata.name} ${nodeName}`;
          })
          .sort();
      const found = () =>
        [...sources.pods.entries()].map(([key, pod]) => `${key} ${pod.node}`).sort();
      await until(() => found().join() === wanted().join(), 'what is selected');
      expect(held().length).toBeGreaterThan(0);
      const isWide = fake.requests.some(({ path }) => path === pods);
      expect(isWide).toBe(many > limitOfMany.most);
    },
    30_000,
  );

  test('roots are published in the namespaces that are in scope, and in one that comes in', async () => {
    configure(selectMesh);
    await start();
    const controller = await startController(testConfig(), { log, client, timings: fastTimings });
    const published = () =>
      ['in', 'out', root].filter((name) => fake.get(configMaps, `${name}/istio-ca-root-cert`));
    try {
      await until(() => published().length === 2, 'roots');
      expect(published()).toEqual(['in', root]);
      putNamespace('out', true);
      await until(() => published().length === 3, 'roots in the one that came in');
    } finally {
      await controller.close();
    }
  });
});
