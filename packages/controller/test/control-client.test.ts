import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { DecodedUpdate } from '@ambit/api';
import { makeSpiffeIdentity, parsePort } from '@ambit/api';
import { createCertificateRequest, createLogger, startControlClient } from '@ambit/core';
import { FakeKube } from '@ambit/testkit';
import { expect, test } from '@jest/globals';

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

test("the proxies' own client is told everything and gets a certificate", async () => {
  const fake = await FakeKube.start();
  const folder = await mkdtemp(join(tmpdir(), 'ambit-control-'));
  const extra = {
    'authentication.kubernetes.io/pod-name': ['z'],
    'authentication.kubernetes.io/pod-uid': ['z'],
  };
  const user = { username: 'system:serviceaccount:istio-system:ztunnel', extra };
  fake.intercept = ({ url }) =>
    url.pathname.endsWith('/tokenreviews')
      ? { status: 201, body: { status: { authenticated: true, audiences: ['istio-ca'], user } } }
      : undefined;
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
  });
  const roots = () =>
    fake.get('/api/v1/configmaps', 'istio-system/istio-ca-root-cert')?.['data'] as
      Record<string, string> | undefined;
  await until(() => roots() !== undefined, 'the published roots');
  await writeFile(join(folder, 'token'), aToken());
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
  try {
    await until(() => updates.some((update) => update.complete), 'the first sync');
    expect(updates.flatMap((update) => update.upserts.map((upsert) => upsert.type))).toEqual([
      'mesh',
      'workload',
      'workload',
    ]);
    expect(updates.flatMap((update) => update.undecodable)).toEqual([]);
    const identity = value(makeSpiffeIdentity(trustDomain(), 'shop', 'front'));
    const { csrPem } = await createCertificateRequest(identity);
    const signed = await client.requestCertificate(identity, csrPem);
    expect(signed.chain).toHaveLength(1);
    expect(signed.roots).toHaveLength(1);
  } finally {
    client.close();
    await controller.close();
    await fake.close();
    await rm(folder, { recursive: true });
  }
});
