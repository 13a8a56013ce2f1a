import { once } from 'node:events';
import * as https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from 'node:net';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import { TestProxy } from './proxy.ts';
import { aPod, aToken, clientOf, fastTimings, memoryLog, testConfig, until } from './support.ts';

const token = aToken({ exp: Math.floor(Date.now() / 1000) + 3600 });

/** Whoever can reach a port of the controller may hold connections to it. */
describe('a port to which somebody holds many connections', () => {
  let fake: FakeKube;
  let controller: Controller;
  const held: Socket[] = [];
  const proxies: TestProxy[] = [];

  beforeEach(async () => {
    fake = await FakeKube.start();
    fake.intercept = ({ url }) =>
      url.pathname.endsWith('/tokenreviews')
        ? {
            status: 201,
            body: {
              status: {
                authenticated: true,
                audiences: ['istio-ca'],
                user: {
                  username: 'system:serviceaccount:istio-system:ztunnel',
                  extra: {
                    'authentication.kubernetes.io/pod-name': ['ztunnel-a'],
                    'authentication.kubernetes.io/pod-uid': ['uid-a'],
                  },
                },
              },
            },
          }
        : undefined;
    fake.put(
      '/api/v1/pods',
      aPod({
        name: 'ztunnel-a',
        namespace: 'istio-system',
        serviceAccount: 'ztunnel',
        uid: 'uid-a',
        ip: '10.0.0.2',
      }),
    );
    controller = await startController(testConfig(), {
      log: memoryLog(),
      client: clientOf(fake),
      timings: fastTimings,
    });
    await controller.whenSynced;
  });
  afterEach(async () => {
    for (const socket of held.splice(0)) socket.destroy();
    for (const proxy of proxies.splice(0)) proxy.close();
    await controller.close();
    await fake.close();
  });

  async function hold({ port }: AddressInfo, count: number): Promise<void> {
    const more = Array.from({ length: count }, () =>
      connect({ host: '127.0.0.1', port }).on('error', () => undefined),
    );
    held.push(...more);
    await Promise.all(more.map((socket) => once(socket, 'connect')));
  }
  const stillOpen = (): number => held.filter((socket) => !socket.closed).length;

  async function proxy(): Promise<TestProxy> {
    const secret = fake.get('/api/v1/secrets', 'istio-system/istio-ca-secret') as unknown as {
      data: Record<string, string>;
    };
    const ca = Buffer.from(secret.data['ca-cert.pem'] ?? '', 'base64').toString();
    const connected = await TestProxy.connect(controller.addresses.control, token, ca);
    proxies.push(connected);
    return connected;
  }

  test('of probes answers the kubelet', async () => {
    const { port } = controller.addresses.metrics;
    await hold(controller.addresses.metrics, 300);
    const answer = await fetch(`http://127.0.0.1:${port}/healthz/live`, {
      signal: AbortSignal.timeout(2_000),
    });
    expect(answer.status).toBe(200);
    await answer.text();
  });

  test('of the webhook answers the API server', async () => {
    const { port } = controller.addresses.webhook;
    await hold(controller.addresses.webhook, 600);
    const status = await new Promise((resolve, reject) => {
      const asking = https.get(
        // Whose certificate it is another test looks at.
        { host: '127.0.0.1', port, path: '/validate', rejectUnauthorized: false, agent: false },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        },
      );
      asking.setTimeout(2_000, () => asking.destroy(new Error('no answer')));
      asking.on('error', reject);
    });
    expect(status).toBe(405);
  });

  test('of the control channel takes proxies, keeps those that it has, and holds no more than it must', async () => {
    const before = await proxy();
    await hold(controller.addresses.control, 1_500);
    const after = await proxy();
    await until(() => stillOpen() < 1_000, 'strangers are let go', 2_000);
    expect([before.closed, after.closed]).toEqual([undefined, undefined]);
  });

  test('of the control channel closes the oldest connections of one and the same proxy', async () => {
    for (let count = 0; count < 8; count += 1) await proxy();
    await until(() => proxies.filter((one) => one.closed !== undefined).length === 4, 'the oldest');
    expect(proxies.map((one, at) => at < 4 === (one.closed !== undefined))).not.toContain(false);
  });
});
