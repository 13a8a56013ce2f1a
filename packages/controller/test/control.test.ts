import { X509Certificate } from 'node:crypto';

import type { Workload } from '@ambit/api';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import { newCsr, TestProxy } from './proxy.ts';
import { aPod, aToken, clientOf, fastTimings, memoryLog, testConfig, until } from './support.ts';

const pods = '/api/v1/pods';
const shopIdentity = 'spiffe://cluster.local/ns/shop/sa/front';
const token = aToken({ exp: 4_000_000_000 });

/** Answers TokenReview for the one good token, as the API server does for a bound token of ztunnel. */
function reviewTokens(fake: FakeKube): void {
  fake.intercept = ({ url, body }) => {
    if (!url.pathname.endsWith('/tokenreviews')) return undefined;
    const asked = body as { spec: { token: string } };
    const good = asked.spec.token === token;
    return {
      status: 201,
      body: {
        status: good
          ? {
              authenticated: true,
              audiences: ['istio-ca'],
              user: {
                username: 'system:serviceaccount:istio-system:ztunnel',
                extra: {
                  'authentication.kubernetes.io/pod-name': ['ztunnel-a'],
                  'authentication.kubernetes.io/pod-uid': ['uid-a'],
                },
              },
            }
          : { authenticated: false },
      },
    };
  };
}

describe('a proxy on the control channel', () => {
  let fake: FakeKube;
  let controller: Controller;
  const proxies: TestProxy[] = [];
  const connect = async (): Promise<TestProxy> => {
    const secret = fake.get('/api/v1/secrets', 'istio-system/istio-ca-secret') as unknown as {
      data: Record<string, string>;
    };
    const ca = Buffer.from(secret.data['ca-cert.pem'] ?? '', 'base64').toString();
    const proxy = await TestProxy.connect(controller.addresses.control, token, ca);
    proxies.push(proxy);
    return proxy;
  };

  beforeEach(async () => {
    fake = await FakeKube.start();
    reviewTokens(fake);
    fake.put('/api/v1/namespaces', { metadata: { name: 'shop' } });
    fake.put(
      pods,
      aPod({
        name: 'ztunnel-a',
        namespace: 'istio-system',
        serviceAccount: 'ztunnel',
        uid: 'uid-a',
        ip: '10.0.0.2',
      }),
    );
    fake.put(pods, aPod({ name: 'front-1', ip: '10.0.0.3', serviceAccount: 'front' }));
    controller = await startController(testConfig(), {
      log: memoryLog(),
      client: clientOf(fake),
      timings: fastTimings,
    });
    await controller.whenSynced;
    await until(() => fake.openWatches >= 8, 'all watches open');
  });
  afterEach(async () => {
    for (const proxy of proxies.splice(0)) proxy.close();
    await controller.close();
    await fake.close();
  });

  test('is told everything, then every change, and only the change', async () => {
    const proxy = await connect();
    proxy.hello();
    await until(() => proxy.complete, 'initial sync');
    expect([...proxy.held.keys()].sort()).toEqual([
      'mesh default',
      'workload Kubernetes//Pod/istio-system/ztunnel-a',
      'workload Kubernetes//Pod/shop/front-1',
    ]);
    const before = proxy.updates.length;
    fake.put(pods, aPod({ name: 'back-1', ip: '10.0.0.4', captured: true }));
    const key = 'workload Kubernetes//Pod/shop/back-1';
    await until(() => proxy.held.has(key), 'the new workload');
    expect((proxy.held.get(key) as Workload).tunnel).toBe('hbone');
    expect(proxy.updates.slice(before).flatMap((update) => update.upserts)).toHaveLength(1);
    fake.delete(pods, 'shop/back-1');
    await until(() => !proxy.held.has(key), 'its removal');
  });

  test('gets a certificate for an identity on its node', async () => {
    const proxy = await connect();
    proxy.hello();
    const answer = await proxy.certificate(shopIdentity, await newCsr(shopIdentity));
    if (answer.kind !== 'certificate') throw new Error(JSON.stringify(answer));
    const leaf = new X509Certificate(answer.chain[0] ?? '');
    expect(leaf.subjectAltName).toBe(`URI:${shopIdentity}`);
    expect(leaf.verify(new X509Certificate(answer.roots[0] ?? '').publicKey)).toBe(true);
  });

  test('gets none for an identity that has no pod on its node', async () => {
    const proxy = await connect();
    proxy.hello();
    const identity = 'spiffe://cluster.local/ns/shop/sa/other';
    const answer = await proxy.certificate(identity, await newCsr(identity));
    expect(answer).toMatchObject({
      kind: 'certificate-refused',
      code: 'unauthenticated',
      message: 'not authorized',
    });
  });

  test('resumes by versions: what it holds is not sent again', async () => {
    const first = await connect();
    first.hello();
    await until(() => first.complete, 'initial sync');
    first.close();
    fake.put(pods, aPod({ name: 'back-1', ip: '10.0.0.4' }));
    const second = await connect();
    for (const [key, version] of first.versions) second.versions.set(key, version);
    second.hello();
    await until(() => second.held.size > 0, 'the one new workload');
    expect([...second.held.keys()]).toEqual(['workload Kubernetes//Pod/shop/back-1']);
  });

  test('that sends a frame of nothing but values is cut off before it is read', async () => {
    const proxy = await connect();
    const held = Array.from({ length: 700_000 }, () => ({}));
    proxy.send({ kind: 'report', problems: held } as unknown as Parameters<TestProxy['send']>[0]);
    await until(() => proxy.closed !== undefined, 'the end');
    expect(proxy.closed).toBe('1009 too many values');
  });
});
