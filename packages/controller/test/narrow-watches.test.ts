import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import { createSources } from '../src/collections/sources.ts';
import type { Sources } from '../src/collections/sources.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { followScope } from '../src/kube/scope.ts';
import { limitOfFew, limitOfMany } from '../src/kube/watch-plan.ts';
import type { Watches } from '../src/kube/watches.ts';
import { startWatches } from '../src/kube/watches.ts';
import { clientOf, fastTimings, memoryLog, until } from './support.ts';

/** Hundreds of watches that are made anew whenever nothing happens would be all that happens. */
const timings = { ...fastTimings, stallMs: 60_000, requestTimeoutMs: 10_000 };
const root = 'istio-system';
const pods = '/api/v1/pods';
const routes = '/apis/gateway.networking.k8s.io/v1/httproutes';
const tcpRoutes = '/apis/gateway.networking.k8s.io/v1/tcproutes';
/** What is read of the whole cluster, whatever is in scope. */
const always = [
  '/api/v1/namespaces',
  '/api/v1/namespaces/istio-system/configmaps',
  '/api/v1/nodes',
  // By labels: those of control planes.
  '/api/v1/services',
  '/apis/discovery.k8s.io/v1/endpointslices',
  '/apis/gateway.networking.k8s.io/v1/gatewayclasses',
];
const scopedKinds = 20;

const inNamespace = (collection: string, namespace: string): string =>
  collection.replace(/\/([^/]+)$/, `/namespaces/${namespace}/$1`);

describe('with few namespaces in scope', () => {
  let fake: FakeKube;
  let client: KubeClient;
  let sources: Sources;
  let watches: Watches;
  let log: ReturnType<typeof memoryLog>;
  /** Pods that were held and then not. */
  let dropped: string[];

  const putNamespace = (name: string, selected: boolean) =>
    fake.put('/api/v1/namespaces', { metadata: { name, labels: selected ? { mesh: 'on' } : {} } });
  const putPod = (namespace: string, name: string, node = 'n') =>
    fake.put(pods, { metadata: { namespace, name }, spec: { nodeName: node } });
  const held = () => [...sources.pods.entries()].map(([key]) => key).sort();
  const holds = (...keys: readonly string[]) =>
    until(() => held().join() === [...keys].sort().join(), `${keys.join()}, not ${held().join()}`);
  const lists = (path: string) =>
    fake.requests.filter((one) => one.path === path && !one.watch).length;
  const watchedPods = () =>
    fake
      .watchedPaths()
      .filter((path) => path.startsWith('/api/v1/') && path.endsWith('/pods'))
      .sort();
  const watchesPodsIn = (...namespaces: readonly string[]) => {
    const paths = namespaces.map((name) => inNamespace(pods, name)).sort();
    return until(
      () => watchedPods().join() === paths.join(),
      `watches of ${paths.join()}, not of ${watchedPods().join()}`,
    );
  };
  const start = async (): Promise<void> => {
    sources = createSources();
    sources.pods.onChange((key, pod) => {
      if (pod === undefined) dropped.push(key);
    });
    const scope = followScope(sources, root);
    const options = { client, sources, scope, rootNamespace: root, log, timings };
    watches = startWatches({ ...options, onChange: () => undefined });
    await watches.whenSynced;
  };
  const many = (from: number, to: number): string[] =>
    Array.from({ length: to - from }, (_, index) => `m-${from + index}`);

  beforeEach(async () => {
    fake = await FakeKube.start();
    client = clientOf(fake);
    log = memoryLog();
    dropped = [];
    putNamespace(root, false);
    putNamespace('in', true);
    putNamespace('out', false);
    putPod('in', 'a');
    putPod('out', 'b');
    fake.put('/api/v1/configmaps', {
      metadata: { name: 'istio', namespace: root },
      data: { mesh: 'discoverySelectors: [{ matchLabels: { mesh: "on" } }]' },
    });
  });
  afterEach(async () => {
    await watches.close();
    await until(() => fake.openWatches === 0, 'that all watches end');
    client.close();
    await fake.close();
  });

  test('nothing else is listed or watched', async () => {
    await start();
    await until(
      () => fake.openWatches === always.length + 2 * scopedKinds,
      `${always.length + 2 * scopedKinds} watches, not ${fake.openWatches}`,
    );
    const scoped = new RegExp(`/namespaces/(${root}|in)/[a-z]+$`);
    const asked = [...new Set(fake.requests.map(({ path }) => path))];
    expect(asked.filter((path) => !scoped.test(path) || always.includes(path)).sort()).toEqual(
      always,
    );
    expect(held()).toEqual(['in/a']);
    expect([...watches.ages().values()].every((age) => age < 5_000)).toBe(true);
  });

  test('one that comes in is read, and no other again; one that goes out is dropped, and its watches end', async () => {
    await start();
    await watchesPodsIn('in', root);
    putNamespace('out', true);
    expect([watches.synced, watches.awaited()]).toEqual([true, []]);
    await holds('in/a', 'out/b');
    await watchesPodsIn('in', 'out', root);
    expect([watches.synced, watches.awaited()]).toEqual([true, []]);
    expect([...watches.ages().values()].every((age) => age < 5_000)).toBe(true);
    expect([lists(inNamespace(pods, 'out')), lists(inNamespace(pods, 'in')), lists(pods)]).toEqual([
      1, 1, 0,
    ]);
    putNamespace('in', false);
    await holds('out/b');
    await watchesPodsIn('out', root);
    await until(
      () => fake.openWatches === always.length + 2 * scopedKinds,
      'that all watches of it end',
    );
    putPod('in', 'c');
    putPod('out', 'd');
    await holds('out/b', 'out/d');
    expect(dropped).toEqual(['in/a']);
  });

  test('one that is deleted is left in peace', async () => {
    await start();
    await watchesPodsIn('in', root);
    fake.delete(pods, 'in/a');
    fake.delete('/api/v1/namespaces', 'in');
    await watchesPodsIn(root);
    await holds();
    expect(log.lines.filter(({ level }) => level === 'warn')).toEqual([]);
    expect(watches.problems()).toEqual([]);
  });

  test('with one too many all is watched at once, and again each when there are clearly fewer; what is held stays', async () => {
    const { most, again } = limitOfMany;
    for (const name of many(2, most)) putNamespace(name, true);
    for (const name of many(2, most + 1)) putPod(name, 'p');
    await start();
    const all = ['in/a', ...many(2, most).map((name) => `${name}/p`)];
    await holds(...all);
    await watchesPodsIn('in', root, ...many(2, most));
    expect(lists(pods)).toBe(0);

    putNamespace(`m-${most}`, true);
    await until(() => watchedPods().join() === pods, 'one watch of all pods');
    await holds(...all, `m-${most}/p`);
    putPod('out', 'no');
    putPod('in', 'late');
    await holds(...all, 'in/late', `m-${most}/p`);
    expect([dropped, lists(pods), watches.awaited()]).toEqual([[], 1, []]);

    putNamespace(`m-${most}`, false);
    await holds(...all, 'in/late');
    await until(() => watchedPods().join() === pods, 'that it goes on');
    for (const name of many(again, most)) putNamespace(name, false);
    const few = many(2, again);
    await watchesPodsIn('in', root, ...few);
    putPod('in', 'later');
    await holds('in/a', 'in/late', 'in/later', ...few.map((name) => `${name}/p`));
    const gone = many(again, most + 1).map((name) => `${name}/p`);
    expect(dropped.sort()).toEqual(gone.sort());
  }, 30_000);

  test('of what people write the whole cluster is watched sooner, and the number of watches is bounded', async () => {
    const wide = scopedKinds - 3;
    for (const name of many(2, limitOfFew.most)) putNamespace(name, true);
    await start();
    const open = async (count: number): Promise<void> =>
      until(
        () => fake.openWatches === always.length + count,
        `${count} watches, not ${fake.openWatches - always.length}`,
      );
    await open(scopedKinds * limitOfFew.most);
    putNamespace('x', true);
    await open(3 * (limitOfFew.most + 1) + wide);
    await watchesPodsIn('in', root, 'x', ...many(2, limitOfFew.most));
    expect(fake.watchedPaths()).toContain(routes);
    for (const name of many(limitOfFew.most, limitOfMany.most - 1)) putNamespace(name, true);
    await open(3 * limitOfMany.most + wide);
    putNamespace('y', true);
    await open(3 + wide);
    expect(dropped).toEqual([]);
  }, 30_000);

  test('a list that is older than what is known undoes nothing while watches change hands', async () => {
    const { most } = limitOfMany;
    for (const name of many(2, most)) putNamespace(name, true);
    putPod('in', 'goes');
    await start();
    await watchesPodsIn('in', root, ...many(2, most));
    let old: unknown;
    fake.intercept = ({ url }) => {
      if (url.pathname !== pods || url.searchParams.has('watch')) return undefined;
      old ??= { metadata: { resourceVersion: version }, items };
      return held().includes('in/new') && !held().includes('in/goes')
        ? { status: 200, body: old }
        : { status: 503, body: {} };
    };
    const items = fake.list(pods);
    const version = putNamespace('m-x', true).metadata.resourceVersion;
    putPod('in', 'new');
    putPod('in', 'a', 'moved');
    fake.delete(pods, 'in/goes');
    await until(() => watchedPods().join() === pods, 'one watch of all pods');
    await holds('in/a', 'in/new');
    expect(sources.pods.get('in/a')?.node).toBe('moved');
    expect(dropped).toEqual(['in/goes']);
    fake.delete(pods, 'in/new');
    await holds('in/a');
  }, 30_000);

  test('a lost connection and 410 are of the watch that they befall', async () => {
    await start();
    await watchesPodsIn('in', root);
    fake.dropWatches();
    putPod('in', 'c');
    await holds('in/a', 'in/c');
    await watchesPodsIn('in', root);
    expect(lists(inNamespace(pods, 'in'))).toBe(1);
    fake.compact();
    fake.expireWatches();
    putPod('in', 'd');
    await holds('in/a', 'in/c', 'in/d');
    expect(lists(inNamespace(pods, 'in'))).toBe(2);
    expect(dropped).toEqual([]);
  });

  test('versions that begin anew, as after a restored backup, are followed in each', async () => {
    await start();
    fake.delete(pods, 'in/a');
    putPod('in', 'c');
    await holds('in/c');
    fake.resetVersions();
    putPod('in', 'd');
    fake.delete(pods, 'in/c');
    fake.expireWatches();
    await holds('in/d');
    putPod('in', 'a');
    await holds('in/a', 'in/d');
  });

  test('a kind that the API does not know is asked for once, not in each namespace, and is found when it comes', async () => {
    const is = (path: string, collection: string): boolean =>
      path.endsWith(collection.slice(collection.lastIndexOf('/')));
    let known = false;
    fake.intercept = ({ url: { pathname } }) =>
      known || !(is(pathname, routes) || is(pathname, tcpRoutes))
        ? undefined
        : { status: 404, body: { code: 404 } };
    await start();
    const asks = () => fake.requests.filter(({ path }) => is(path, routes));
    await until(() => asks().filter(({ path }) => path === routes).length > 3, 'asking');
    const before = asks().length;
    await until(() => asks().length > before + 5, 'asking on');
    expect(
      new Set(
        asks()
          .slice(before)
          .map(({ path }) => path),
      ),
    ).toEqual(new Set([routes]));
    for (const namespace of ['in', 'out'])
      for (const collection of [routes, tcpRoutes])
        fake.put(collection, { metadata: { namespace, name: 'r' }, spec: {} });
    known = true;
    await until(() => sources.httpRoutes.size + sources.tcpRoutes.size === 2, 'the routes');
    const open = (collection: string) =>
      fake
        .watchedPaths()
        .filter((path) => is(path, collection))
        .sort()
        .join();
    for (const collection of [routes, tcpRoutes])
      await until(
        () =>
          open(collection) ===
          [inNamespace(collection, 'in'), inNamespace(collection, root)].sort().join(),
        `watches in each, not ${open(collection)}`,
      );
  });
});
