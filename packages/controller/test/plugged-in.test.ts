import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Authority, AuthorityFiles } from '../src/ca/authority.ts';
import { makeSelfSignedRoot } from '../src/ca/authority.ts';
import type { AuthorityKeeper } from '../src/ca/keeper.ts';
import { startAuthorityKeeper } from '../src/ca/keeper.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { clientOf, fastTimings, memoryLog, trustDomain, until as within } from './support.ts';

const secrets = '/api/v1/secrets';
const configMaps = '/api/v1/configmaps';
const until = (what: () => boolean, why: string): Promise<void> => within(what, why, 30_000);

describe('an authority that was plugged in', () => {
  let fake: FakeKube;
  let client: KubeClient;
  let files: AuthorityFiles;
  let log = memoryLog();
  let nowMs = Date.now();
  const running: AuthorityKeeper[] = [];

  beforeEach(async () => {
    fake = await FakeKube.start();
    client = clientOf(fake);
    log = memoryLog();
    nowMs = Date.now();
    files = await makeSelfSignedRoot(trustDomain('users.example'), Date.now());
  });
  afterEach(async () => {
    for (const one of running.splice(0)) await one.close();
    client.close();
    await fake.close();
  });

  function start(): AuthorityKeeper {
    const keeper = startAuthorityKeeper({
      client,
      rootNamespace: 'istio-system',
      trustDomain: trustDomain(),
      nowMs: () => nowMs,
      timings: { ...fastTimings, stallMs: 10_000 },
      log,
      onChange: () => undefined,
    });
    running.push(keeper);
    return keeper;
  }

  function plugIn(given: AuthorityFiles): void {
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    fake.put(secrets, {
      metadata: { name: 'cacerts', namespace: 'istio-system' },
      data: { 'ca-cert.pem': base64(given.caCert), 'ca-key.pem': base64(given.caKey) },
    });
  }

  const unplug = (): void => fake.delete(secrets, 'istio-system/cacerts');
  const rootOf = (authority: Authority | undefined): string | undefined => authority?.rootsPem[0];
  const remembered = (): unknown => fake.get(configMaps, 'istio-system/ambit-authority')?.['data'];
  const selfMade = (): boolean => fake.get(secrets, 'istio-system/istio-ca-secret') !== undefined;

  test('and is gone: one that runs goes on, one that starts signs nothing and says what is missing', async () => {
    plugIn(files);
    const first = start();
    await first.whenReady;
    await until(() => remembered() !== undefined, 'it is remembered');
    expect(remembered()).toMatchObject({ secret: 'cacerts' });
    unplug();
    await until(() => log.lines.some(({ message }) => /is gone/.test(message)), 'it is told');
    const second = start();
    await until(() => second.reason() !== undefined, 'the reason');
    expect(second.current()).toBeUndefined();
    expect(second.reason()).toMatch(
      /Secret istio-system\/cacerts is missing.*restore it, or delete ConfigMap istio-system\/ambit-authority/,
    );
    expect(rootOf(first.current())).toBe(files.caCert);
    expect(selfMade()).toBe(false);
    expect(log.lines.filter(({ message }) => /is missing/.test(message))).toHaveLength(1);
    plugIn(files);
    await second.whenReady;
    expect(rootOf(second.current())).toBe(files.caCert);
    expect(second.reason()).toBeUndefined();
    log.lines.length = 0;
    unplug();
    const gone = () => log.lines.filter(({ message }) => /is gone/.test(message)).length;
    await until(() => gone() === 2, 'each tells it once more');
  }, 60_000);

  test('and given up by hand: those that run and those that wait sign by the one self-made root', async () => {
    plugIn(files);
    const first = start();
    await first.whenReady;
    await until(() => remembered() !== undefined, 'it is remembered');
    unplug();
    const second = start();
    await until(() => second.reason() !== undefined, 'the reason');
    fake.delete(configMaps, 'istio-system/ambit-authority');
    await second.whenReady;
    await until(() => rootOf(first.current()) === rootOf(second.current()), 'one root');
    expect(rootOf(first.current())).not.toBe(files.caCert);
    expect(selfMade()).toBe(true);
    await until(() => remembered() !== undefined, 'that one is remembered');
    expect(remembered()).toMatchObject({ secret: 'istio-ca-secret' });
  }, 60_000);

  test('and is another by now is remembered as that', async () => {
    plugIn(files);
    const keeper = start();
    await keeper.whenReady;
    await until(() => remembered() !== undefined, 'it is remembered');
    const before = JSON.stringify(remembered());
    const next = await makeSelfSignedRoot(trustDomain('next.example'), Date.now());
    plugIn(next);
    await until(() => JSON.stringify(remembered()) !== before, 'the other is remembered');
    expect(rootOf(keeper.current())).toBe(next.caCert);
  }, 60_000);

  test('and begins later is told once, and signs when its time has come', async () => {
    plugIn(await makeSelfSignedRoot(trustDomain('later.example'), nowMs + 3_600_000));
    const keeper = start();
    await until(() => keeper.reason() !== undefined, 'the reason');
    expect(keeper.reason()).toMatch(/cacerts: ca-cert\.pem is valid from /);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(log.lines.filter(({ level }) => level === 'error')).toHaveLength(1);
    nowMs += 3_600_000;
    await keeper.whenReady;
    expect(keeper.reason()).toBeUndefined();
  }, 60_000);

  test('is used also where it cannot be remembered, which is told and tried again', async () => {
    fake.intercept = ({ method, url }) =>
      method === 'PATCH' && url.pathname.endsWith('/configmaps/ambit-authority')
        ? { status: 403, body: { kind: 'Status', code: 403, reason: 'Forbidden' } }
        : undefined;
    plugIn(files);
    const keeper = start();
    await keeper.whenReady;
    await until(() => log.lines.some(({ level }) => level === 'error'), 'it is told');
    unplug();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(rootOf(keeper.current())).toBe(files.caCert);
    fake.intercept = undefined;
    await until(() => remembered() !== undefined, 'it is remembered in the end');
    expect(rootOf(keeper.current())).toBe(files.caCert);
  }, 60_000);

  test('while nobody can say whether there was one, none is made', async () => {
    fake.intercept = ({ url }) =>
      url.pathname.endsWith('/configmaps/ambit-authority')
        ? { status: 500, body: { kind: 'Status', code: 500 } }
        : undefined;
    const keeper = start();
    await until(() => keeper.reason() !== undefined, 'the reason');
    expect(selfMade()).toBe(false);
    fake.intercept = undefined;
    await keeper.whenReady;
    expect(selfMade()).toBe(true);
  }, 60_000);

  test('nowhere: the self-made root is remembered, and no other is made when its Secret is gone', async () => {
    const first = start();
    await first.whenReady;
    await until(() => remembered() !== undefined, 'it is remembered');
    expect(remembered()).toMatchObject({ secret: 'istio-ca-secret' });
    const secret = fake.get(secrets, 'istio-system/istio-ca-secret');
    if (secret === undefined) throw new TypeError('no Secret');
    fake.delete(secrets, 'istio-system/istio-ca-secret');
    const second = start();
    await until(() => second.reason() !== undefined, 'the reason');
    expect(second.reason()).toMatch(
      /Secret istio-system\/istio-ca-secret is missing.*restore it, or delete ConfigMap istio-system\/ambit-authority/,
    );
    expect([second.current(), selfMade()]).toEqual([undefined, false]);
    fake.put(secrets, secret);
    await second.whenReady;
    expect(rootOf(second.current())).toBe(rootOf(first.current()));
    // Plugged in later it is the other way round.
    plugIn(files);
    await until(() => rootOf(second.current()) === files.caCert, 'that signs');
    await until(
      () => (remembered() as { secret: string }).secret === 'cacerts',
      'that is remembered',
    );
  }, 60_000);

  test('nowhere: one that was never remembered is, once it can be', async () => {
    fake.intercept = ({ method, url }) =>
      method === 'PATCH' && url.pathname.endsWith('/configmaps/ambit-authority')
        ? { status: 503, body: { kind: 'Status', code: 503 } }
        : undefined;
    const keeper = start();
    await keeper.whenReady;
    await until(() => log.lines.some(({ level }) => level === 'error'), 'it is told');
    fake.intercept = undefined;
    await until(() => remembered() !== undefined, 'it is remembered in the end');
  }, 60_000);
});
