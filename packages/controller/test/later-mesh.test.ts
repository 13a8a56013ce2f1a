import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Controller } from '../src/app.ts';
import { startController } from '../src/app.ts';
import { clientOf, fastTimings, memoryLog, testConfig, until as within } from './support.ts';

const services = '/api/v1/services';
const slices = '/apis/discovery.k8s.io/v1/endpointslices';
const classes = '/apis/gateway.networking.k8s.io/v1/gatewayclasses';
const until = (what: () => boolean, why: string): Promise<void> => within(what, why, 30_000);

describe('a mesh that is installed after this one', () => {
  let fake: FakeKube;
  let controller: Controller;
  const log = memoryLog();

  beforeEach(async () => {
    fake = await FakeKube.start();
    for (const name of ['istio-system', 'other'])
      fake.put('/api/v1/namespaces', { metadata: { name } });
    service('istio-system', 'ambit-controller', 2025);
    fake.put(classes, {
      metadata: { name: 'istio-waypoint', generation: 1 },
      spec: { controllerName: 'ambit.dev/mesh-controller' },
    });
    controller = await startController(testConfig(), {
      log,
      client: clientOf(fake),
      timings: { ...fastTimings, stallMs: 10_000 },
      leaseTimings: { durationMs: 2_000, retryMs: 20 },
    });
    await controller.whenSynced;
  });
  afterEach(async () => {
    await controller.close();
    await fake.close();
  });

  function service(namespace: string, name: string, year: number): void {
    fake.put(services, {
      metadata: {
        name,
        namespace,
        labels: { app: name },
        creationTimestamp: `${year}-01-01T00:00:00Z`,
      },
      spec: {},
    });
  }

  const condition = (): Record<string, unknown> | undefined => {
    const status = fake.get(classes, 'istio-waypoint')?.['status'] as
      { conditions?: Record<string, unknown>[] } | undefined;
    return status?.conditions?.find((one) => one['type'] === 'ambit.dev/OtherMesh');
  };

  async function get(path: string): Promise<string> {
    const answer = await fetch(`http://127.0.0.1:${controller.addresses.metrics.port}${path}`);
    return answer.text();
  }

  test('is told on the log, the metrics and the GatewayClass until it is gone, and this one goes on', async () => {
    expect(await get('/metrics')).toMatch(/^ambit_other_meshes 0$/m);
    expect(condition()).toBeUndefined();
    service('other', 'istiod', 2026);
    fake.put(slices, {
      metadata: {
        name: 'istiod-1',
        namespace: 'other',
        labels: { 'kubernetes.io/service-name': 'istiod' },
      },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready: true } }],
    });
    await until(() => condition()?.['status'] === 'True', 'the condition');
    expect(condition()?.['message']).toMatch(
      /Istio \(Service other\/istiod\) was installed after this mesh.*uninstall one/,
    );
    expect(log.lines.filter(({ message }) => /installed after/.test(message))).toHaveLength(1);
    expect(await get('/metrics')).toMatch(/^ambit_other_meshes 1$/m);
    expect(await get('/metrics')).toMatch(/^ambit_leader 1$/m);
    expect(await get('/healthz/ready')).toBe('ready\n');
    fake.delete(slices, 'other/istiod-1');
    await until(() => condition()?.['status'] === 'False', 'that it is gone');
    expect(await get('/metrics')).toMatch(/^ambit_other_meshes 0$/m);
  }, 60_000);
});
