import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import { Collection } from '../src/collections/collection.ts';
import type { KubeClient } from '../src/kube/client.ts';
import type { ParametersRecord } from '../src/kube/decode/parameters.ts';
import { decodeParameters } from '../src/kube/decode/parameters.ts';
import type { NamedWatches } from '../src/kube/named-watches.ts';
import { startNamedWatches } from '../src/kube/named-watches.ts';
import { clientOf, fastTimings, memoryLog, until as within } from './support.ts';

const configMaps = '/api/v1/configmaps';
const until = (what: () => boolean, why: string): Promise<void> => within(what, why, 30_000);

describe('more names than are watched', () => {
  let fake: FakeKube;
  let client: KubeClient;
  let watches: NamedWatches;
  let users: Collection<readonly string[]>;
  let into: Collection<ParametersRecord>;
  let log = memoryLog();

  beforeEach(async () => {
    fake = await FakeKube.start();
    client = clientOf(fake);
    log = memoryLog();
    users = new Collection('users');
    into = new Collection('into');
    watches = startNamedWatches<readonly string[], ParametersRecord>({
      what: { plural: 'configmaps', kind: 'ConfigMap' },
      decode: decodeParameters,
      client,
      log,
      timings: { ...fastTimings, stallMs: 10_000 },
      users,
      namesOf: (names) => names,
      into,
      onChange: () => undefined,
      maxWatched: 2,
    });
    for (const name of ['a', 'b', 'c', 'd'])
      fake.put(configMaps, { metadata: { name, namespace: 'shop' }, data: { name } });
  });
  afterEach(async () => {
    await watches.close();
    client.close();
    await fake.close();
  });

  const kind = (name: string): string | undefined => into.get(`shop/${name}`)?.kind;

  test('are told by their name, on the log once, and to who asks how many wait', async () => {
    users.set('one', ['shop/a', 'shop/b', 'shop/c', 'shop/d']);
    await watches.settled();
    expect(['a', 'b', 'c', 'd'].map(kind)).toEqual(['read', 'read', 'unreadable', 'unreadable']);
    const waiting = into.get('shop/c');
    expect(waiting?.kind === 'unreadable' && waiting.why).toMatch(
      /2 ConfigMaps are named before it, and no more are read/,
    );
    expect(watches.waiting()).toBe(2);
    const told = log.lines.filter(({ level }) => level === 'error');
    expect(told.map(({ message }) => message)).toEqual([
      'more ConfigMaps are named than are read; the rest waits until others are named no more',
    ]);
    expect(JSON.stringify(told)).toContain('shop/c');
  }, 60_000);

  test('are read as soon as others are named no more, in their order', async () => {
    users.set('one', ['shop/a', 'shop/b']);
    users.set('two', ['shop/c']);
    users.set('three', ['shop/d']);
    await watches.settled();
    expect(kind('c')).toBe('unreadable');
    users.set('one', ['shop/b']);
    await until(() => kind('c') === 'read', 'the next is read');
    expect(kind('d')).toBe('unreadable');
    expect(watches.waiting()).toBe(1);
    users.delete('two');
    await until(() => kind('d') === 'read', 'and the last');
    expect(watches.waiting()).toBe(0);
    expect(into.get('shop/c')).toBeUndefined();
    await until(() => log.lines.some(({ level }) => level === 'info'), 'that none waits');
  }, 60_000);

  test('and one that waits and is named no more takes nobody’s place', async () => {
    users.set('one', ['shop/a', 'shop/b']);
    users.set('two', ['shop/c']);
    users.set('three', ['shop/d']);
    await watches.settled();
    users.delete('two');
    users.set('one', ['shop/a']);
    await until(() => kind('d') === 'read', 'the other is read');
    expect(watches.waiting()).toBe(0);
  }, 60_000);
});
