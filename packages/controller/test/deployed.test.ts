import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import { clientOf, fastTimings, memoryLog, testConfig, until as within } from './support.ts';

const gateways = '/apis/gateway.networking.k8s.io/v1/gateways';
const collections = {
  Deployment: '/apis/apps/v1/deployments',
  Service: '/api/v1/services',
  ServiceAccount: '/api/v1/serviceaccounts',
} as const;
const kinds = Object.keys(collections) as (keyof typeof collections)[];

const until = (what: () => boolean, why: string): Promise<void> => within(what, why, 30_000);
/** Longer than anything here takes. */
const aWhile = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 300));

describe('what is deployed for a Gateway', () => {
  let fake: FakeKube;
  let controller: Controller;

  beforeEach(async () => {
    fake = await FakeKube.start();
    for (const name of ['istio-system', 'shop'])
      fake.put('/api/v1/namespaces', { metadata: { name } });
    fake.put(gateways, {
      metadata: { name: 'w', namespace: 'shop', generation: 1 },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
    controller = await startController(testConfig(), {
      log: memoryLog(),
      client: clientOf(fake),
      timings: { ...fastTimings, stallMs: 10_000 },
      leaseTimings: { durationMs: 2_000, retryMs: 20 },
    });
    await until(() => kinds.every(stands), 'it is deployed');
    await aWhile();
  });
  afterEach(async () => {
    await controller.close();
    await fake.close();
  });

  const stands = (kind: keyof typeof collections): boolean =>
    fake.get(collections[kind], 'shop/w') !== undefined;
  const writes = (): number =>
    fake.requests.filter(({ method, path }) => method !== 'GET' && /\/shop\/.*\/w$/.test(path))
      .length;

  test.each(kinds)('is made again when somebody deletes the %s', async (kind) => {
    fake.delete(collections[kind], 'shop/w');
    await until(() => stands(kind), 'it is there again');
  });

  test('is not made again while its Gateway goes', async () => {
    const gateway = fake.get(gateways, 'shop/w');
    if (gateway === undefined) throw new TypeError('no Gateway');
    const { metadata } = gateway;
    fake.put(gateways, {
      ...gateway,
      metadata: { ...metadata, deletionTimestamp: '2026-01-01T00:00:00Z' },
    });
    await aWhile();
    fake.delete(collections.Deployment, 'shop/w');
    await aWhile();
    expect(stands('Deployment')).toBe(false);
  });

  test('is not written again when others change what is theirs of it', async () => {
    const before = writes();
    for (const replicas of [2, 3]) {
      const deployment = fake.get(collections.Deployment, 'shop/w');
      if (deployment === undefined) throw new TypeError('no Deployment');
      fake.put(collections.Deployment, {
        ...deployment,
        spec: { ...(deployment['spec'] as object), replicas },
      });
      await aWhile();
    }
    expect(writes()).toBe(before);
  });
});
