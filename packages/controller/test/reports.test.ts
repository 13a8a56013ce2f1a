import type { ReportedProblem } from '@ambit/api';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import { TestProxy } from './proxy.ts';
import { aPod, aToken, clientOf, fastTimings, memoryLog, testConfig, until } from './support.ts';

const authentications = '/apis/security.istio.io/v1/requestauthentications';

/** Whose token it is, by its `who`. */
const callers: Readonly<Record<string, readonly [account: string, pod: string]>> = {
  waypoint: ['shop:waypoint', 'waypoint-1'],
  ztunnel: ['istio-system:ztunnel', 'ztunnel-a'],
};

describe('what proxies report of resources', () => {
  let fake: FakeKube;
  let controller: Controller;
  const proxies: TestProxy[] = [];

  beforeEach(async () => {
    fake = await FakeKube.start();
    fake.intercept = ({ url, body }) => {
      if (!url.pathname.endsWith('/tokenreviews')) return undefined;
      const { spec } = body as { spec: { token: string } };
      const claims = Buffer.from(spec.token.split('.')[1] ?? '', 'base64url').toString();
      const [account = '', pod = ''] = callers[(JSON.parse(claims) as { who: string }).who] ?? [];
      const extra = {
        'authentication.kubernetes.io/pod-name': [pod],
        'authentication.kubernetes.io/pod-uid': [pod],
      };
      const user = { username: `system:serviceaccount:${account}`, extra };
      return {
        status: 201,
        body: { status: { authenticated: true, audiences: ['istio-ca'], user } },
      };
    };
    fake.put('/apis/gateway.networking.k8s.io/v1/gateways', {
      metadata: { name: 'waypoint', namespace: 'shop', uid: 'g', generation: 1 },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
    const ownerReferences = [
      { apiVersion: 'gateway.networking.k8s.io/v1', kind: 'Gateway', name: 'waypoint', uid: 'g' },
    ];
    const managed = { 'gateway.istio.io/managed': 'ambit.dev-mesh-controller' };
    fake.put('/api/v1/serviceaccounts', {
      metadata: { name: 'waypoint', namespace: 'shop', labels: managed, ownerReferences },
    });
    const account = { namespace: 'istio-system', serviceAccount: 'ztunnel', ip: '10.0.0.2' };
    fake.put('/api/v1/pods', aPod({ name: 'ztunnel-a', uid: 'ztunnel-a', ...account }));
    const labels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };
    const own = { serviceAccount: 'waypoint', ip: '10.0.0.3', labels };
    fake.put('/api/v1/pods', aPod({ name: 'waypoint-1', uid: 'waypoint-1', ...own }));
    fake.put('/api/v1/services', {
      metadata: { name: 'web', namespace: 'shop' },
      spec: { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], ports: [{ port: 80 }] },
    });
    fake.put(authentications, {
      metadata: { name: 'jwt', namespace: 'shop', generation: 1 },
      spec: {
        targetRefs: [{ kind: 'Service', name: 'web' }],
        jwtRules: [{ issuer: 'me', jwksUri: 'http://keys.auth/jwks' }],
      },
    });
    controller = await startController(testConfig(), {
      log: memoryLog(),
      client: clientOf(fake),
      timings: fastTimings,
    });
    await controller.whenSynced;
    await until(() => accepted()?.['status'] === 'True', 'the first condition');
  });
  afterEach(async () => {
    for (const proxy of proxies.splice(0)) proxy.close();
    await controller.close();
    await fake.close();
  });

  function accepted(name = 'shop/jwt'): Record<string, unknown> | undefined {
    const status = fake.get(authentications, name)?.['status'] as
      { conditions?: Record<string, unknown>[] } | undefined;
    return status?.conditions?.find((one) => one['type'] === 'Accepted');
  }

  async function connect(who: 'waypoint' | 'ztunnel'): Promise<TestProxy> {
    const secret = fake.get('/api/v1/secrets', 'istio-system/istio-ca-secret') as unknown as {
      data: Record<string, string>;
    };
    const ca = Buffer.from(secret.data['ca-cert.pem'] ?? '', 'base64').toString();
    const { control } = controller.addresses;
    const proxy = await TestProxy.connect(control, aToken({ exp: 4e9, who }), ca);
    proxies.push(proxy);
    proxy.hello({ program: who });
    await until(() => proxy.complete, 'the first sync');
    return proxy;
  }

  const field = 'spec.jwtRules[0].jwksUri';
  const fetching = (message: string): ReportedProblem[] => [
    { type: 'authentication', name: 'shop/jwt', field, message },
  ];

  test('is told on their status with the field and who told it, until it is mended', async () => {
    const proxy = await connect('waypoint');
    proxy.send({ kind: 'report', problems: fetching('keys not fetched: refused') });
    await until(() => accepted()?.['status'] === 'False', 'the report on the status');
    expect(accepted()).toMatchObject({
      reason: 'ReportedByProxy',
      message: `${field}: keys not fetched: refused (told by waypoint shop/waypoint-1)`,
    });
    proxy.send({ kind: 'report', problems: [] });
    await until(() => accepted()?.['status'] === 'True', 'the mended status');
    expect(proxy.closed).toBeUndefined();
  });

  test('goes with the proxy that told it', async () => {
    const [gone, other] = [await connect('waypoint'), await connect('waypoint')];
    gone.send({ kind: 'report', problems: fetching('one') });
    other.send({ kind: 'report', problems: fetching('two') });
    await until(() => String(accepted()?.['message']).includes('one'), 'the one');
    await until(() => String(accepted()?.['message']).includes('two'), 'the other');
    gone.close();
    await until(() => !String(accepted()?.['message']).includes('one'), 'its end');
    expect(accepted()?.['status']).toBe('False');
    other.close();
    await until(() => accepted()?.['status'] === 'True', 'the end of both');
  });

  test('is a short text of one line, and heard once a second', async () => {
    const proxy = await connect('waypoint');
    const writes = (): number =>
      fake.requests.filter(({ path }) => path.endsWith('/jwt/status')).length;
    await until(() => accepted()?.['status'] === 'True', 'what is said without a report');
    const before = writes();
    const beganMs = performance.now();
    for (let index = 0; index < 50; index += 1) {
      const message = `${index}\u0000\r\n\u202e${'x'.repeat(5_000)}`;
      proxy.send({ kind: 'report', problems: fetching(message) });
    }
    await until(() => String(accepted()?.['message']).includes('49 '), 'the last report');
    const message = String(accepted()?.['message']);
    expect(message.length).toBeLessThan(500);
    expect(message).not.toMatch(/[\p{C}]/u);
    const seconds = Math.ceil((performance.now() - beganMs) / 1_000);
    expect(writes() - before).toBeLessThanOrEqual(1 + seconds);
  });

  test('is nothing where the proxy is not told of such resources', async () => {
    const proxy = await connect('ztunnel');
    const others = [{ type: 'credential', name: 'other/secret', field: '', message: '' } as const];
    proxy.send({ kind: 'report', problems: [...fetching('never mind'), ...others] });
    const waypoint = await connect('waypoint');
    waypoint.send({ kind: 'report', problems: fetching('listen') });
    await until(() => accepted()?.['status'] === 'False', 'the report of the waypoint');
    expect(accepted()?.['message']).not.toContain('never mind');
  });

  test('before the greeting is a breach of the protocol', async () => {
    const secret = fake.get('/api/v1/secrets', 'istio-system/istio-ca-secret') as unknown as {
      data: Record<string, string>;
    };
    const ca = Buffer.from(secret.data['ca-cert.pem'] ?? '', 'base64').toString();
    const token = aToken({ exp: 4e9, who: 'waypoint' });
    const proxy = await TestProxy.connect(controller.addresses.control, token, ca);
    proxies.push(proxy);
    proxy.send({ kind: 'report', problems: [] });
    await until(() => proxy.closed !== undefined, 'the end');
    expect(proxy.closed).toBe('1008 a report before hello');
  });

  test('stands beside targets that are not there, which are told by the controller itself', async () => {
    fake.put(authentications, {
      metadata: { name: 'lost', namespace: 'shop', generation: 1 },
      spec: {
        targetRefs: [{ kind: 'Service', name: 'gone' }],
        jwtRules: [{ issuer: 'me', jwksUri: 'http://keys.auth/jwks' }],
      },
    });
    await until(() => accepted('shop/lost') !== undefined, 'the condition');
    expect(accepted('shop/lost')).toMatchObject({
      status: 'False',
      reason: 'TargetNotFound',
      message: 'spec.targetRefs[0].name: there is no Service shop/gone',
    });
    fake.put('/api/v1/services', {
      metadata: { name: 'gone', namespace: 'shop' },
      spec: { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.2'], ports: [{ port: 80 }] },
    });
    await until(() => accepted('shop/lost')?.['status'] === 'True', 'the mended condition');
  });
});
