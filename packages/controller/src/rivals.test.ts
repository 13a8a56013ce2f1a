import { describe, expect, test } from '@jest/globals';

import { decoded } from '../test/records.ts';
import { createSources } from './collections/sources.ts';
import { decodeGatewayClass } from './kube/decode/configuration.ts';
import { decodeControlPlane } from './kube/decode/control-plane.ts';
import { decodeEndpointSlice } from './kube/decode/endpoint-slice.ts';
import { endpointsOfPlanes, watchRivals } from './rivals.ts';
import { memoryLog } from '../test/support.ts';

function world() {
  const sources = createSources();
  const log = memoryLog();
  const rivals = watchRivals(sources, 'istio-system', log);
  const service = (namespace: string, name: string, year: number, labels = {}): void => {
    const metadata = { name, namespace, labels, creationTimestamp: `${year}-01-01T00:00:00Z` };
    sources.controlPlanes.set(`${namespace}/${name}`, decoded(decodeControlPlane, { metadata }));
  };
  const endpoints = (namespace: string, name: string, ready: boolean): void => {
    const labels = { 'kubernetes.io/service-name': name };
    const slice = {
      metadata: { name: `${name}-1`, namespace, labels },
      endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready } }],
    };
    sources.controlPlaneEndpoints.set(
      `${namespace}/${name}-1`,
      decoded(decodeEndpointSlice, slice),
    );
  };
  const istiod = { app: 'istiod' };
  service('istio-system', 'ambit-controller', 2026);
  return { sources, log, rivals, service, endpoints, istiod };
}

describe('another mesh in the cluster', () => {
  test('one that was first and runs keeps this one from working, until it is gone', () => {
    const { rivals, service, endpoints, istiod, log } = world();
    service('istio-system', 'istiod', 2025, istiod);
    expect(rivals.reason()).toBeUndefined();
    endpoints('istio-system', 'istiod', true);
    expect(rivals.reason()).toMatch(/^Istio already runs .*istio-system\/istiod.*uninstall one/);
    expect(log.lines.map(({ level }) => level)).toEqual(['error']);
    endpoints('istio-system', 'istiod', false);
    expect(rivals.reason()).toBeUndefined();
  });

  test('one that came later does not, and is told until it is gone', () => {
    const { rivals, service, endpoints, istiod, log } = world();
    let changes = 0;
    rivals.onChange(() => (changes += 1));
    service('istio-system', 'istiod-canary', 2027, istiod);
    expect(rivals.later()).toBeUndefined();
    endpoints('istio-system', 'istiod-canary', true);
    service('other', 'ambit-controller', 2027);
    endpoints('other', 'ambit-controller', true);
    expect(rivals.reason()).toBeUndefined();
    expect(rivals.later()).toMatch(
      /^Ambit \(Service other\/ambit-controller\) and Istio \(Service istio-system\/istiod-canary\) were/,
    );
    expect([rivals.count, changes]).toEqual([2, 2]);
    endpoints('istio-system', 'istiod-canary', false);
    endpoints('other', 'ambit-controller', false);
    expect(rivals.later()).toBeUndefined();
    expect(rivals.count).toBe(0);
    expect(log.lines.map(({ level }) => level)).toEqual(['error', 'error', 'error', 'info']);
  });

  test('an installation of our own in another namespace is one', () => {
    const { rivals, service, endpoints } = world();
    service('other', 'ambit-controller', 2025);
    endpoints('other', 'ambit-controller', true);
    expect(rivals.reason()).toMatch(/^Ambit already runs .*other\/ambit-controller/);
  });

  test('our own replicas, and a Service that only has the name, are none', () => {
    const { rivals, service, endpoints } = world();
    endpoints('istio-system', 'ambit-controller', true);
    service('istio-system', 'istiod', 2020);
    endpoints('istio-system', 'istiod', true);
    expect(rivals.reason()).toBeUndefined();
  });

  test('a class that names another controller keeps it from working, and the fix is told', () => {
    const { rivals, sources } = world();
    const put = (controllerName: string): void =>
      sources.gatewayClasses.set(
        'istio-waypoint',
        decoded(decodeGatewayClass, {
          metadata: { name: 'istio-waypoint' },
          spec: { controllerName },
        }),
      );
    put('ambit.dev/mesh-controller');
    expect(rivals.reason()).toBeUndefined();
    put('istio.io/mesh-controller');
    expect(rivals.reason()).toMatch(/GatewayClass istio-waypoint names .*delete the class/);
  });

  test('endpoints are asked for of those that are control planes, the oldest first, and of our own', () => {
    const { sources, service, istiod } = world();
    service('other', 'istiod-b', 2025, istiod);
    service('istio-system', 'istiod-a', 2026, istiod);
    service('shop', 'istiod-c', 2026, { app: 'web' });
    const selector = () => endpointsOfPlanes(sources.controlPlanes.entries()).labelSelector;
    expect(selector()).toBe('kubernetes.io/service-name in (ambit-controller,istiod-a,istiod-b)');
    for (let index = 0; index < 60; index += 1) service('z', `istiod-${index}`, 2027, istiod);
    expect(selector()?.split(',')).toHaveLength(50);
    expect(selector()).toContain('istiod-b');
  });
});
