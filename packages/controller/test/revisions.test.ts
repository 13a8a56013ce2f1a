import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { FakeObject } from '@ambit/testkit';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import type { ControllerConfig } from '../src/config.ts';
import { clientOf, fastTimings, memoryLog, testConfig, until as within } from './support.ts';

const namespaces = '/api/v1/namespaces';
const gateways = '/apis/gateway.networking.k8s.io/v1/gateways';
const classes = '/apis/gateway.networking.k8s.io/v1/gatewayclasses';
const policies = '/apis/security.istio.io/v1/authorizationpolicies';
const deployments = '/apis/apps/v1/deployments';
const services = '/api/v1/services';
const webhooks = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';

const until = (what: () => boolean, why: string): Promise<void> => within(what, why, 30_000);

const labelled = (revision: string | undefined): Record<string, string> =>
  revision === undefined ? {} : { 'istio.io/rev': revision };

describe('controllers of two revisions', () => {
  let fake: FakeKube;
  const running: Controller[] = [];
  const log = memoryLog();
  const writes: { by: string; path: string }[] = [];

  async function start(changes: Partial<ControllerConfig>): Promise<void> {
    const client = clientOf(fake);
    const by = changes.revision ?? 'default';
    running.push(
      await startController(testConfig(changes), {
        log,
        client: {
          ...client,
          request: (request) => {
            if ((request.method ?? 'GET') !== 'GET') writes.push({ by, path: request.path });
            return client.request(request);
          },
        },
        // This machine may be busy with other tests.
        timings: { ...fastTimings, stallMs: 10_000 },
        leaseTimings: { durationMs: 2_000, retryMs: 20 },
      }),
    );
  }

  beforeEach(async () => {
    writes.length = 0;
    log.lines.length = 0;
    fake = await FakeKube.start();
    for (const name of ['istio-system', 'shop']) fake.put(namespaces, { metadata: { name } });
    namespace('ours', 'canary');
  });
  afterEach(async () => {
    for (const controller of running.splice(0)) await controller.close();
    await fake.close();
  });

  function namespace(name: string, revision: string | undefined): void {
    fake.put(namespaces, { metadata: { name, labels: labelled(revision) } });
  }

  function gateway(where: string, name: string, revision?: string): void {
    fake.put(gateways, {
      metadata: { name, namespace: where, labels: labelled(revision), generation: 1 },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
  }

  function policy(where: string, name: string, revision?: string): void {
    fake.put(policies, {
      metadata: { name, namespace: where, labels: labelled(revision), generation: 1 },
      spec: { action: 'DENY', rules: [{}] },
    });
  }

  const writersOf = (path: string): readonly string[] => [
    ...new Set(writes.filter((one) => one.path.endsWith(path)).map(({ by }) => by)),
  ];
  const deployed = (key: string): FakeObject | undefined => fake.get(deployments, key);
  const condition = (collection: string, key: string, type: string) => {
    const status = fake.get(collection, key)?.['status'] as
      { conditions?: Record<string, unknown>[] } | undefined;
    return status?.conditions?.find((one) => one['type'] === type);
  };

  test('write each what is labelled for it, by the object or else its namespace; what bears no label is the default one’s', async () => {
    gateway('shop', 'plain');
    gateway('shop', 'theirs', 'canary');
    gateway('ours', 'inherited');
    gateway('ours', 'back', 'default');
    gateway('shop', 'nobody', 'unknown');
    policy('shop', 'plain');
    policy('ours', 'inherited');
    fake.put(classes, {
      metadata: { name: 'istio-waypoint', generation: 1 },
      spec: { controllerName: 'ambit.dev/mesh-controller' },
    });
    fake.put(webhooks, {
      metadata: { name: 'ambit-validator', labels: labelled('canary') },
      webhooks: [{ name: 'validation.ambit.dev', clientConfig: {} }],
    });
    await start({});
    await start({ revision: 'canary' });
    const all = ['shop/plain', 'shop/theirs', 'ours/inherited', 'ours/back'];
    await until(() => all.every((key) => deployed(key) !== undefined), 'all of them');
    await until(() => condition(policies, 'ours/inherited', 'ZtunnelAccepted') !== undefined, 'it');
    await until(() => condition(policies, 'shop/plain', 'ZtunnelAccepted') !== undefined, 'it');
    await until(() => writersOf('/ambit-validator').length > 0, 'the webhook');
    await until(() => condition(classes, 'istio-waypoint', 'Accepted') !== undefined, 'the class');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const by = (where: string, name: string): readonly string[] => [
      ...new Set([
        ...writersOf(`/${where}/deployments/${name}`),
        ...writersOf(`/${where}/gateways/${name}/status`),
        ...writersOf(`/${where}/authorizationpolicies/${name}/status`),
      ]),
    ];
    expect(by('shop', 'plain')).toEqual(['default']);
    expect(by('shop', 'theirs')).toEqual(['canary']);
    expect(by('ours', 'inherited')).toEqual(['canary']);
    expect(by('ours', 'back')).toEqual(['default']);
    expect(by('shop', 'nobody')).toEqual([]);
    expect(writersOf('/istio-waypoint/status')).toEqual(['default']);
    expect(writersOf('/ambit-validator')).toEqual(['canary']);
  });

  test('a named one that is the default one writes what bears no label, and shares the Lease of those that do', async () => {
    gateway('shop', 'plain');
    await start({ revision: 'canary', defaultRevision: 'canary' });
    await until(() => deployed('shop/plain') !== undefined, 'it is deployed');
    const leases = fake.list('/apis/coordination.k8s.io/v1/leases');
    expect(leases.map(({ metadata }) => metadata.name)).toEqual(['ambit-controller']);
  });

  test('what changes hands is written by the other, whatever the terms of the two Leases are', async () => {
    gateway('shop', 'w');
    await start({});
    await until(() => deployed('shop/w') !== undefined, 'it is deployed');
    // Later terms than the other will ever have.
    fake.put(deployments, {
      ...(deployed('shop/w') as FakeObject),
      metadata: {
        ...(deployed('shop/w') as FakeObject).metadata,
        annotations: { 'ambit.dev/term': '9999999999' },
      },
    });
    await start({ revision: 'canary' });
    await until(
      () => log.lines.filter(({ message }) => /writes from now/.test(message)).length === 2,
      'two',
    );
    namespace('shop', 'canary');
    await until(() => writersOf('/shop/deployments/w').includes('canary'), 'the other writes');
    const annotations = () =>
      deployed('shop/w')?.metadata['annotations'] as Record<string, string> | undefined;
    await until(() => annotations()?.['ambit.dev/lease'] === 'ambit-controller-canary', 'its mark');
    const before = writes.filter(({ by }) => by === 'default').length;
    fake.put(gateways, {
      ...(fake.get(gateways, 'shop/w') as FakeObject),
      spec: {
        gatewayClassName: 'istio-waypoint',
        infrastructure: { labels: { round: 'two' } },
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
    await until(
      () => (deployed('shop/w')?.metadata['labels'] as Record<string, string>)['round'] === 'two',
      'the change',
    );
    const late = writes.filter(({ by }) => by === 'default').slice(before);
    expect(late.filter(({ path }) => /gateways|deployments/.test(path))).toEqual([]);
  });

  test('a write that is refused again and again is told on the log and the Gateway, until it is taken', async () => {
    let refuse = true;
    fake.intercept = ({ method, url }) =>
      refuse && method === 'PATCH' && url.pathname.endsWith('/shop/services/w')
        ? {
            status: 409,
            body: { kind: 'Status', code: 409, reason: 'Conflict', message: 'fenced' },
          }
        : undefined;
    gateway('shop', 'w');
    await start({});
    await until(
      () => condition(gateways, 'shop/w', 'ambit.dev/WriteRefused')?.['status'] === 'True',
      'the refusal on the Gateway',
    );
    expect(condition(gateways, 'shop/w', 'ambit.dev/WriteRefused')?.['message']).toMatch(/fenced/);
    expect(
      log.lines.some(({ level, message }) => level === 'warn' && /not deployed/.test(message)),
    ).toBe(true);
    refuse = false;
    await until(
      () => condition(gateways, 'shop/w', 'ambit.dev/WriteRefused')?.['status'] === 'False',
      'all is well again',
    );
    expect(fake.get(services, 'shop/w')).toBeDefined();
  }, 60_000);

  test('a status that is refused again and again is tried again and told', async () => {
    fake.intercept = ({ method, url }) =>
      method === 'PATCH' && url.pathname.endsWith('/authorizationpolicies/p/status')
        ? { status: 409, body: { kind: 'Status', code: 409, reason: 'Conflict' } }
        : undefined;
    policy('shop', 'p');
    await start({});
    await until(
      () =>
        log.lines.some(
          ({ level, message }) => level === 'warn' && /status not written/.test(message),
        ),
      'it is told',
    );
    fake.intercept = undefined;
    await until(
      () => condition(policies, 'shop/p', 'ZtunnelAccepted') !== undefined,
      'it is written in the end',
    );
  }, 60_000);
});
