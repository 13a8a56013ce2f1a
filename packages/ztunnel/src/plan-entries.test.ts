import type { SocketAddress, Workload } from '@ambit/api';
import { parseSocketAddress } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { createMeshState } from '@ambit/core';
import { aService, aWorkload, upserts } from '@ambit/testkit';
import { describe, expect, test } from '@jest/globals';
import { planOutbound } from './outbound/plan.ts';

const address = '192.0.2.10';
const endpointIp = '198.51.100.1';

function at(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

function entry(namespace: string, resolution: string, more: object = {}) {
  return aService({
    name: 'api.example.com',
    namespace,
    hostname: 'api.example.com',
    vips: [address],
    entry: { name: 'api', location: 'external', resolution, subjectAltNames: [] },
    ...more,
  });
}

function endpoint(namespace: string, ip = endpointIp, more: object = {}): Workload {
  return aWorkload({
    uid: `Kubernetes/networking.istio.io/ServiceEntry/${namespace}/api/${ip}`,
    name: 'api',
    namespace,
    addresses: [ip],
    tunnel: 'none',
    services: [
      {
        service: `${namespace}/api.example.com`,
        ready: true,
        ports: [{ servicePort: 80, targetPort: 8080 }],
      },
    ],
    ...more,
  });
}

function stateOf(nouns: Parameters<typeof upserts>[0]): MeshState {
  const { state, updater } = createMeshState();
  updater.apply({ upserts: upserts(nouns), undecodable: [], removals: [], complete: true });
  return state;
}

const source = aWorkload({ name: 'source', addresses: ['10.0.0.9'] });
const plan = (state: MeshState, to: string, from = source) =>
  planOutbound(state, from, at(to), () => 0);

describe('a ServiceEntry', () => {
  test('STATIC: its address leads to an endpoint, by plain TCP', () => {
    const state = stateOf({ services: [entry('test', 'static')], workloads: [endpoint('test')] });
    expect(plan(state, `${address}:80`)).toMatchObject({
      kind: 'passthrough',
      actualDestination: { ip: endpointIp, port: 8080 },
    });
  });

  test('NONE: its address is where the connection goes', () => {
    const state = stateOf({ services: [entry('test', 'none')] });
    expect(plan(state, `${address}:80`)).toMatchObject({
      kind: 'passthrough',
      actualDestination: { ip: address, port: 80 },
    });
  });

  test('that is bound to a waypoint goes there, and nowhere without it', () => {
    const waypoint = { kind: 'service', service: 'test/waypoint', port: 15008 };
    const state = stateOf({
      services: [entry('test', 'static', { waypoint })],
      workloads: [endpoint('test')],
    });
    expect(plan(state, `${address}:80`)).toMatchObject({
      kind: 'refuse',
      why: 'waypoint-not-ready',
    });
  });

  test('that is kept to its namespace is nothing to clients of others', () => {
    const services = [entry('shop', 'static', { visibleTo: ['shop'] })];
    const state = stateOf({ services, workloads: [endpoint('shop')] });
    expect(plan(state, `${address}:80`)).toMatchObject({
      kind: 'passthrough',
      why: 'unknown-destination',
    });
    const inside = aWorkload({ name: 'inside', namespace: 'shop', addresses: ['10.0.0.8'] });
    expect(plan(state, `${address}:80`, inside)).toMatchObject({
      actualDestination: { ip: endpointIp, port: 8080 },
    });
  });

  test('of the own namespace is meant before one of others, in whatever order they came', () => {
    const own = [entry('test', 'static'), endpoint('test', '198.51.100.2')] as const;
    const other = [entry('shop', 'static'), endpoint('shop')] as const;
    for (const [a, b] of [
      [own, other],
      [other, own],
    ] as const) {
      const state = stateOf({ services: [a[0], b[0]], workloads: [a[1], b[1]] });
      expect(plan(state, `${address}:80`)).toMatchObject({
        actualDestination: { ip: '198.51.100.2' },
      });
    }
  });

  test('does not take the address of a Service, in whatever order they came', () => {
    const service = aService({ name: 'bank', vips: [address] });
    for (const services of [
      [service, entry('test', 'static')],
      [entry('test', 'static'), service],
    ]) {
      const state = stateOf({ services, workloads: [endpoint('test')] });
      expect(plan(state, `${address}:80`).service?.name).toBe('bank');
    }
  });
});

describe('an endpoint that somebody wrote down', () => {
  test('does not take the address of a pod, in whatever order they came', () => {
    const pod = aWorkload({ name: 'pod', addresses: [endpointIp] });
    for (const workloads of [
      [pod, endpoint('test')],
      [endpoint('test'), pod],
    ]) {
      const state = stateOf({ workloads });
      expect(plan(state, `${endpointIp}:8080`)).toMatchObject({
        kind: 'hbone',
        destination: { name: 'pod' },
      });
    }
  });

  test('does not lead clients of other namespaces to a waypoint', () => {
    const waypoint = { kind: 'service', service: 'shop/waypoint', port: 15008 };
    const state = stateOf({ workloads: [endpoint('shop', endpointIp, { waypoint })] });
    expect(plan(state, `${endpointIp}:8080`)).toMatchObject({
      kind: 'passthrough',
      why: 'unknown-destination',
    });
    const inside = aWorkload({ name: 'inside', namespace: 'shop', addresses: ['10.0.0.8'] });
    expect(plan(state, `${endpointIp}:8080`, inside)).toMatchObject({ kind: 'refuse' });
  });
});
