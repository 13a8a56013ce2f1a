import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import { createSources } from '../src/collections/sources.ts';
import type { Sources } from '../src/collections/sources.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { followScope } from '../src/kube/scope.ts';
import type { Watches } from '../src/kube/watches.ts';
import { startWatches } from '../src/kube/watches.ts';
import { startController } from '../src/app.ts';
import { clientOf, fastTimings, memoryLog, testConfig, until } from './support.ts';

const root = 'istio-system';
const pods = '/api/v1/pods';
const services = '/api/v1/services';
const namespaces = '/api/v1/namespaces';
const configMaps = '/api/v1/configmaps';
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
    const options = { client, sources, scope, rootNamespace: root, log, timings: fastTimings };
    watches = startWatches({ ...options, onChange: () => undefined });
    await watches.whenSynced;
  };
  const held = () => [...sources.pods.entries()].map(([key]) => key).sort();
  const lists = (path: string) =>
    fake.requests.filter((one) => one.path === path && !one.watch).length;
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

  test('a namespace that comes in by a label is read, and only of the kinds that it has', async () => {
    configure(selectMesh);
    await start();
    putNamespace('out', true);
    await holds('in/a', `${root}/ztunnel`, 'out/b');
    putPod('out', 'c');
    await holds('in/a', `${root}/ztunnel`, 'out/b', 'out/c');
    expect(lists(pods)).toBe(2);
    expect(lists(services)).toBe(1);
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

  test('the Service of another control plane is seen wherever it is', async () => {
    configure(selectMesh);
    fake.put(services, {
      metadata: { namespace: 'out', name: 'istiod', labels: { app: 'istiod' } },
    });
    fake.put(services, { metadata: { namespace: 'out', name: 'other' } });
    await start();
    expect([...sources.services.entries()].map(([key]) => key)).toEqual(['out/istiod']);
  });

  test('any order of labels, pods and lost watches ends in what is selected', async () => {
    configure(selectMesh);
    await start();
    let state = 7;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return (state >>> 8) % below;
    };
    const names = ['in', 'out', 'x', 'y'];
    const selected = new Set(['in', root]);
    for (let step = 0; step < 300; step += 1) {
      const name = names[random(names.length)] ?? '';
      const what = random(10);
      if (what < 3) {
        if (!selected.delete(name)) selected.add(name);
        putNamespace(name, selected.has(name));
      } else if (what < 7) putPod(name, `p-${random(5)}`, `n-${step}`);
      else if (what < 8) fake.delete(pods, `${name}/p-${random(5)}`);
      else if (what < 9) fake.dropWatches();
      else fake.compact();
      if (random(4) === 0) await new Promise((resolve) => setTimeout(resolve, random(10)));
    }
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
    expect(selected.size).toBeGreaterThan(1);
  });

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
