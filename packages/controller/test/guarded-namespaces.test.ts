import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import { createSources } from '../src/collections/sources.ts';
import type { Sources } from '../src/collections/sources.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { followScope } from '../src/kube/scope.ts';
import { limitOfMany } from '../src/kube/watch-plan.ts';
import type { Watches } from '../src/kube/watches.ts';
import { startWatches } from '../src/kube/watches.ts';
import { clientOf, fastTimings, memoryLog, until } from './support.ts';

const timings = { ...fastTimings, stallMs: 60_000, requestTimeoutMs: 10_000 };
const root = 'istio-system';
const namespaces = '/api/v1/namespaces';
const pods = '/api/v1/pods';
const services = '/api/v1/services';
const entries = '/apis/networking.istio.io/v1/workloadentries';
const policies = '/apis/security.istio.io/v1/authorizationpolicies';
const gateways = '/apis/gateway.networking.k8s.io/v1/gateways';
const selectMesh = 'discoverySelectors: [{ matchLabels: { mesh: "on" } }]';
const isOf = (path: string, collection: string): boolean =>
  path.endsWith(collection.slice(collection.lastIndexOf('/')));

describe('a namespace that comes into scope', () => {
  let fake: FakeKube;
  let client: KubeClient;
  let sources: Sources;
  let watches: Watches;
  let log: ReturnType<typeof memoryLog>;
  let refused: boolean;
  /** Policies of `out` that were held when its first pod came. */
  let heldBefore: number | undefined;

  const putNamespace = (name: string, selected: boolean) =>
    fake.put(namespaces, { metadata: { name, labels: selected ? { mesh: 'on' } : {} } });
  const configure = (mesh: string) =>
    fake.put('/api/v1/configmaps', {
      metadata: { name: 'istio', namespace: root },
      data: { mesh },
    });
  const held = () => [...sources.pods.entries()].map(([key]) => key).sort();
  const holds = (key: string) => until(() => held().includes(key), `${key} in ${held().join()}`);
  const asked = () =>
    fake.requests.filter(({ path, watch }) => isOf(path, policies) && !watch).length;
  const start = async (): Promise<void> => {
    sources = createSources();
    sources.pods.onChange((key) => {
      if (key.startsWith('out/')) heldBefore ??= sources.policies.size;
    });
    const scope = followScope(sources, root);
    const options = { client, sources, scope, rootNamespace: root, log, timings };
    watches = startWatches({ ...options, onChange: () => undefined });
    await watches.whenSynced;
  };
  /** Lists of policies are refused, and are asked for some times. */
  const refuse = async (act: () => void): Promise<void> => {
    refused = true;
    const before = asked();
    act();
    await until(() => asked() > before + 4, 'that policies are asked for');
  };
  const nothingOfOut = () => {
    const keys = [sources.pods, sources.services, sources.workloadEntries].flatMap((one) =>
      [...one.entries()].map(([key]) => key),
    );
    expect(keys.filter((key) => key.startsWith('out/'))).toEqual([]);
  };
  const thenAllOfOut = async (): Promise<void> => {
    refused = false;
    await holds('out/b');
    await until(() => sources.services.size + sources.workloadEntries.size === 2, 'the others');
    expect(heldBefore).toBe(1);
  };

  beforeEach(async () => {
    fake = await FakeKube.start();
    client = clientOf(fake);
    log = memoryLog();
    refused = false;
    heldBefore = undefined;
    fake.intercept = ({ url }) =>
      refused && isOf(url.pathname, policies) && !url.searchParams.has('watch')
        ? { status: 429, body: { code: 429 } }
        : undefined;
    putNamespace(root, false);
    putNamespace('in', true);
    putNamespace('out', false);
    fake.put(pods, { metadata: { namespace: 'in', name: 'a' }, spec: { nodeName: 'n' } });
    fake.put(pods, { metadata: { namespace: 'out', name: 'b' }, spec: { nodeName: 'n' } });
    fake.put(services, { metadata: { namespace: 'out', name: 's' }, spec: {} });
    fake.put(entries, { metadata: { namespace: 'out', name: 'e' }, spec: { address: '10.9.9.9' } });
    fake.put(policies, {
      metadata: { namespace: 'out', name: 'deny' },
      spec: { action: 'DENY', rules: [{}] },
    });
    configure(selectMesh);
  });
  afterEach(async () => {
    await watches.close();
    client.close();
    await fake.close();
  });

  test('is not known before its policies are', async () => {
    await start();
    await refuse(() => putNamespace('out', true));
    nothingOfOut();
    expect([held(), watches.synced, watches.awaited()]).toEqual([['in/a'], true, []]);
    await thenAllOfOut();
  });

  test('nor where the whole cluster is watched', async () => {
    for (let index = 0; index < limitOfMany.most; index += 1) putNamespace(`m-${index}`, true);
    await start();
    await until(() => fake.watchedPaths().includes(pods), 'one watch of all pods');
    await refuse(() => putNamespace('out', true));
    nothingOfOut();
    await thenAllOfOut();
    putNamespace('out', false);
    await until(() => held().join() === 'in/a', 'that it goes at once');
    heldBefore = undefined;
    await refuse(() => putNamespace('out', true));
    nothingOfOut();
    await thenAllOfOut();
  }, 30_000);

  test('nor where there are no selectors any more; what is in scope is followed meanwhile', async () => {
    await start();
    await refuse(() => configure(''));
    fake.put(pods, { metadata: { namespace: 'in', name: 'c' }, spec: { nodeName: 'n' } });
    await holds('in/c');
    nothingOfOut();
    await thenAllOfOut();
    fake.put(pods, { metadata: { namespace: 'new', name: 'd' }, spec: { nodeName: 'n' } });
    await holds('new/d');
  });

  test('goes at once while it waits, and what waits long is told with the kinds', async () => {
    await start();
    await refuse(() => putNamespace('out', true));
    const told = () => log.lines.find(({ message }) => message.includes('not served yet'));
    await until(() => told() !== undefined, 'the log', 8_000);
    expect(told()).toMatchObject({
      level: 'warn',
      fields: { namespaces: ['out'], kinds: ['AuthorizationPolicy'] },
    });
    putNamespace('out', false);
    refused = false;
    fake.put(pods, { metadata: { namespace: 'in', name: 'c' }, spec: { nodeName: 'n' } });
    await holds('in/c');
    nothingOfOut();
  }, 15_000);

  test('a kind that the API does not know holds nothing up', async () => {
    fake.intercept = ({ url }) =>
      isOf(url.pathname, gateways) ? { status: 404, body: { code: 404 } } : undefined;
    await start();
    putNamespace('out', true);
    await thenAllOfOut();
  });
});
