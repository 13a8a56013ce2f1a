import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { DecodedUpdate } from '@ambit/api';
import { makeSpiffeIdentity, parsePort } from '@ambit/api';
import type { ControlClient, SignedCertificate } from '@ambit/core';
import { createCertificateRequest, createLogger, startControlClient } from '@ambit/core';
import { FakeKube } from '@ambit/testkit';
import { afterEach, describe, expect, test } from '@jest/globals';

import { startController } from '../src/app.ts';
import { value } from './records.ts';
import {
  aPod,
  aToken,
  clientOf,
  fastTimings,
  memoryLog,
  testConfig,
  trustDomain,
  until,
} from './support.ts';

interface Cluster {
  readonly fake: FakeKube;
  readonly client: ControlClient;
  readonly updates: readonly DecodedUpdate[];
  /** What the kubelet would write into the proxy's volume. */
  giveToken(token: string): Promise<void>;
  close(): Promise<void>;
}

/** A controller and a node's proxy with its own client; `isGood` says which tokens the API server knows. */
async function start(isGood: (token: string) => boolean, token: () => string): Promise<Cluster> {
  const fake = await FakeKube.start();
  const folder = await mkdtemp(join(tmpdir(), 'ambit-control-'));
  const extra = {
    'authentication.kubernetes.io/pod-name': ['z'],
    'authentication.kubernetes.io/pod-uid': ['z'],
  };
  const user = { username: 'system:serviceaccount:istio-system:ztunnel', extra };
  const good = { authenticated: true, audiences: ['istio-ca'], user };
  fake.intercept = ({ url, body }) => {
    if (!url.pathname.endsWith('/tokenreviews')) return undefined;
    const asked = (body as { spec: { token: string } }).spec.token;
    return { status: 201, body: { status: isGood(asked) ? good : { authenticated: false } } };
  };
  fake.put('/api/v1/namespaces', { metadata: { name: 'istio-system' } });
  fake.put(
    '/api/v1/pods',
    aPod({
      name: 'z',
      namespace: 'istio-system',
      uid: 'z',
      serviceAccount: 'ztunnel',
      ip: '10.0.0.2',
    }),
  );
  fake.put('/api/v1/pods', aPod({ name: 'front-1', serviceAccount: 'front', ip: '10.0.0.3' }));
  // By address, as a proxy without DNS reaches it.
  const controller = await startController(testConfig({ servingNames: ['127.0.0.1'] }), {
    log: memoryLog(),
    client: clientOf(fake),
    timings: fastTimings,
    pingMs: 500,
  });
  const roots = () =>
    fake.get('/api/v1/configmaps', 'istio-system/istio-ca-root-cert')?.['data'] as
      Record<string, string> | undefined;
  await until(() => roots() !== undefined, 'the published roots');
  const giveToken = (given: string) => writeFile(join(folder, 'token'), given);
  await giveToken(token());
  await writeFile(join(folder, 'roots'), roots()?.['root-cert.pem'] ?? '');
  const updates: DecodedUpdate[] = [];
  const client = startControlClient({
    address: { host: '127.0.0.1', port: value(parsePort(controller.addresses.control.port)) },
    tokenFile: join(folder, 'token'),
    rootsFile: join(folder, 'roots'),
    program: 'ztunnel',
    node: 'node-a',
    instance: 'z',
    logger: createLogger({ scope: 'test', level: 'silent', format: 'json' }),
    held: () => [],
    onUpdate: (update) => updates.push(update),
  });
  return {
    fake,
    client,
    updates,
    giveToken,
    close: async () => {
      client.close();
      await controller.close();
      await fake.close();
      await rm(folder, { recursive: true });
    },
  };
}

describe("the proxies' own client", () => {
  let cluster: Cluster;
  afterEach(() => cluster.close());

  const ask = async (): Promise<SignedCertificate> => {
    const identity = value(makeSpiffeIdentity(trustDomain(), 'shop', 'front'));
    const { csrPem } = await createCertificateRequest(identity);
    return cluster.client.requestCertificate(identity, csrPem);
  };

  test('is told everything and gets a certificate', async () => {
    cluster = await start(() => true, aToken);
    const { updates } = cluster;
    await until(() => updates.some((update) => update.complete), 'the first sync');
    expect(updates.flatMap((update) => update.upserts.map((upsert) => upsert.type))).toEqual([
      'mesh',
      'workload',
      'workload',
    ]);
    expect(updates.flatMap((update) => update.undecodable)).toEqual([]);
    const signed = await ask();
    expect(signed.chain).toHaveLength(1);
    expect(signed.roots).toHaveLength(1);
  });

  test('gets certificates, too, when the token with which it came has ended', async () => {
    const endingIn = (seconds: number) => aToken({ exp: Math.floor(Date.now() / 1000) + seconds });
    let known = '';
    cluster = await start(
      (token) => token === known,
      () => (known = endingIn(3)),
    );
    const { client, updates } = cluster;
    await until(() => updates.some((update) => update.complete), 'the first sync');
    await ask();
    // As kubelets do, long before it ends.
    known = endingIn(3_600);
    await cluster.giveToken(known);
    await until(
      () => updates.filter(({ complete }) => complete).length > 1,
      'it comes again',
      8_000,
    );
    expect(client.connected).toBe(true);
    expect((await ask()).chain).toHaveLength(1);
  });

  test('is cut off when its pod has gone', async () => {
    cluster = await start(() => true, aToken);
    const { fake, client, updates } = cluster;
    await until(() => updates.some((update) => update.complete), 'the first sync');
    fake.delete('/api/v1/pods', 'istio-system/z');
    await until(() => !client.connected, 'the end');
  });
});
