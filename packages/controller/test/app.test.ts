import { X509Certificate } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import { makeSelfSignedRoot } from '../src/ca/authority.ts';
import { clientOf, fastTimings, memoryLog, testConfig, trustDomain, until } from './support.ts';

const configMaps = '/api/v1/configmaps';
const secrets = '/api/v1/secrets';
const policies = '/apis/security.istio.io/v1/authorizationpolicies';

function rootsIn(fake: FakeKube, namespace: string): string | undefined {
  const object = fake.get(configMaps, `${namespace}/istio-ca-root-cert`);
  return (object?.['data'] as Record<string, string> | undefined)?.['root-cert.pem'];
}

function conditionOf(fake: FakeKube, key: string): Record<string, unknown> | undefined {
  const status = fake.get(policies, key)?.['status'] as
    { conditions?: Record<string, unknown>[] } | undefined;
  return status?.conditions?.find((one) => one['type'] === 'ZtunnelAccepted');
}

describe('a controller', () => {
  let fake: FakeKube;
  const running: Controller[] = [];
  const log = memoryLog();
  const start = async (): Promise<Controller> => {
    const controller = await startController(testConfig(), {
      log,
      client: clientOf(fake),
      timings: fastTimings,
    });
    running.push(controller);
    return controller;
  };
  beforeEach(async () => {
    fake = await FakeKube.start();
    fake.put('/api/v1/namespaces', { metadata: { name: 'shop' } });
    fake.put('/api/v1/namespaces', { metadata: { name: 'istio-system' } });
  });
  afterEach(async () => {
    for (const controller of running.splice(0)) await controller.close();
    await fake.close();
  });

  test('publishes its roots in every namespace and keeps them in place', async () => {
    await start();
    await until(
      () => rootsIn(fake, 'shop') !== undefined && rootsIn(fake, 'istio-system') !== undefined,
      'roots',
    );
    const roots = rootsIn(fake, 'shop') ?? '';
    expect(new X509Certificate(roots).ca).toBe(true);
    fake.put('/api/v1/namespaces', { metadata: { name: 'late' } });
    await until(() => rootsIn(fake, 'late') === roots, 'roots in a new namespace');
    fake.delete(configMaps, 'shop/istio-ca-root-cert');
    await until(() => rootsIn(fake, 'shop') === roots, 'roots again');
    fake.put(configMaps, {
      metadata: { name: 'istio-ca-root-cert', namespace: 'shop' },
      data: { 'root-cert.pem': 'mine' },
    });
    await until(() => rootsIn(fake, 'shop') === roots, 'the right roots again');
  });

  test('two that start at once make one root', async () => {
    await Promise.all([start(), start()]);
    expect(fake.list(secrets)).toHaveLength(1);
    await until(() => rootsIn(fake, 'shop') !== undefined, 'roots');
    expect(rootsIn(fake, 'shop')?.match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
  });

  test('uses a plugged-in authority, at start and when it comes', async () => {
    const files = await makeSelfSignedRoot(trustDomain(), Date.now());
    await start();
    await until(() => rootsIn(fake, 'shop') !== undefined, 'its own roots');
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    const secret = {
      metadata: { name: 'cacerts', namespace: 'istio-system' },
      data: {
        'ca-cert.pem': base64(files.caCert),
        'ca-key.pem': base64(files.caKey),
        'root-cert.pem': base64(files.caCert),
      },
    };
    fake.put(secrets, secret);
    await until(() => rootsIn(fake, 'shop') === files.caCert, 'the plugged-in roots');
    fake.put(secrets, { ...secret, data: { ...secret.data, 'ca-key.pem': base64('broken') } });
    await until(
      () => log.lines.some((line) => line.message.includes('the last good authority is kept')),
      'the problem told',
    );
    expect(rootsIn(fake, 'shop')).toBe(files.caCert);
    expect(JSON.stringify(log.lines)).not.toContain('PRIVATE KEY');
  });

  test('tells the owner of a policy what became of it, once', async () => {
    fake.put(policies, {
      metadata: { name: 'good', namespace: 'shop', generation: 1 },
      spec: { rules: [{}] },
    });
    fake.put(policies, {
      metadata: { name: 'bad', namespace: 'shop', generation: 1 },
      spec: { rules: [{ to: [{ operation: { ports: ['x'] } }] }] },
    });
    fake.put(policies, {
      metadata: { name: 'http', namespace: 'shop', generation: 1 },
      spec: { rules: [{ to: [{ operation: { methods: ['GET'] } }] }] },
    });
    await start();
    await until(
      () =>
        ['good', 'bad', 'http'].every((name) => conditionOf(fake, `shop/${name}`) !== undefined),
      'conditions',
    );
    expect(conditionOf(fake, 'shop/good')).toMatchObject({
      status: 'True',
      reason: 'Accepted',
      observedGeneration: 1,
    });
    expect(conditionOf(fake, 'shop/bad')).toMatchObject({ status: 'False', reason: 'Invalid' });
    expect(conditionOf(fake, 'shop/bad')?.['message']).toContain(
      'spec.rules[0].to[0].operation.ports[0]',
    );
    expect(conditionOf(fake, 'shop/http')).toMatchObject({
      status: 'False',
      reason: 'UnsupportedValue',
    });
    const patches = () =>
      fake.requests.filter((one) => one.method === 'PATCH' && one.path.endsWith('/status')).length;
    const before = patches();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(patches()).toBe(before);
    expect(before).toBe(3);
  });

  test('shows metrics and readiness, and debug views on loopback', async () => {
    const controller = await start();
    await controller.whenSynced;
    const get = (path: string) =>
      fetch(`http://127.0.0.1:${controller.addresses.metrics.port}${path}`);
    expect((await get('/healthz/ready')).status).toBe(200);
    expect(await (await get('/metrics')).text()).toMatch(
      /ambit_watch_age_seconds\{kind="Pod"\} [\d.]+/,
    );
    const resources = await (await get('/debug/resources')).text();
    expect(JSON.parse(resources)).toMatchObject({ mesh: [{ name: 'default' }] });
    expect(resources).not.toContain('PRIVATE KEY');
    expect((await get('/debug/keys')).status).toBe(404);
  });

  test('follows the mesh configuration and tells what of it is wrong', async () => {
    const controller = await start();
    await controller.whenSynced;
    const debug = async (view: string): Promise<string> => {
      const { port } = controller.addresses.metrics;
      return (await fetch(`http://127.0.0.1:${port}/debug/${view}`)).text();
    };
    const shows = async (view: string, what: string, shown = true): Promise<void> => {
      for (let tries = 0; (await debug(view)).includes(what) !== shown; tries += 1) {
        if (tries > 300) throw new Error(`${what} in ${view}: ${await debug(view)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    const put = (mesh: string) =>
      fake.put(configMaps, {
        metadata: { name: 'istio', namespace: 'istio-system' },
        data: { mesh },
      });
    put('extensionProviders: [{ name: gate, envoyExtAuthzGrpc: { service: a.b, port: 9 } }]');
    await shows('resources', 'ext-authz-grpc');
    put('extensionProviders: [{ name: gate, envoyExtAuthzGrpc: { service: a.b, port: none } }]');
    await shows('problems', 'envoyExtAuthzGrpc.port');
    expect(await debug('resources')).toContain('ext-authz-grpc');
    put('{');
    await shows('problems', '"field": "data.mesh"');
    expect(await debug('resources')).toContain('ext-authz-grpc');
    fake.delete(configMaps, 'istio-system/istio');
    await shows('resources', 'ext-authz-grpc', false);
    expect(await debug('problems')).toBe('[]\n');
  });

  test('is not ready while a kind cannot be listed, and says which', async () => {
    fake.intercept = ({ url }) =>
      url.pathname.endsWith('/peerauthentications')
        ? { status: 404, body: { kind: 'Status', code: 404 } }
        : undefined;
    const controller = await start();
    const ready = () =>
      fetch(`http://127.0.0.1:${controller.addresses.metrics.port}/healthz/ready`);
    let told = '';
    // Until the others have been listed; the test's own time is the limit.
    while (told !== 'waiting for PeerAuthentication\n') {
      const answer = await ready();
      expect(answer.status).toBe(503);
      told = await answer.text();
    }
    fake.intercept = undefined;
    await controller.whenSynced;
    expect((await ready()).status).toBe(200);
  });
});
