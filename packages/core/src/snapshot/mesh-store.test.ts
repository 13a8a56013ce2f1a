import { describe, expect, test } from '@jest/globals';
import type { PolicyKey } from '@ambit/api';
import { parseIp, parsePort } from '@ambit/api';
import { aPolicy, aService, aWorkload, upserts } from '@ambit/testkit';
import { authorize } from '../policy/authorize.ts';
import type { StateUpdate } from './mesh-store.ts';
import { createMeshState } from './mesh-store.ts';

const update = (fields: Partial<StateUpdate>): StateUpdate => ({
  upserts: [],
  undecodable: [],
  removals: [],
  complete: false,
  ...fields,
});

function address(text: string) {
  const ip = parseIp(text);
  if (!ip.ok) throw new TypeError(ip.error.message);
  return ip.value;
}

const port = parsePort(80);
const facts = {
  sourceIp: address('10.0.0.9'),
  destinationIp: address('10.0.0.1'),
  destinationPort: port.ok ? port.value : (0 as never),
};

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, index) =>
    permutations(items.filter((_, other) => other !== index)).map((rest) => [item, ...rest]),
  );
}

describe('updates in any order', () => {
  test('never let a connection through that the policies forbid, once the workload is known', () => {
    const deny = aPolicy({
      name: 'deny',
      scope: { kind: 'selected' },
      rules: [{ from: [], to: [], when: [] }],
    });
    const workload = aWorkload({ policies: ['test/deny'] });
    const events = [
      update({ upserts: upserts({ workloads: [workload] }) }),
      update({ upserts: upserts({ policies: [deny] }) }),
      update({ undecodable: [{ type: 'policy', name: 'test/deny' }] }),
      update({ removals: [{ type: 'policy', name: 'test/deny' }] }),
      update({ upserts: upserts({ services: [aService()] }) }),
      update({ upserts: upserts({ workloads: [workload] }) }),
    ];
    let judged = 0;
    for (const order of permutations(events)) {
      const { state, updater } = createMeshState();
      for (const event of order) {
        updater.apply(event);
        const known = state.workload(workload.uid);
        if (known === undefined) continue;
        judged += 1;
        expect(authorize(state.policiesFor(known), facts).verdict).toBe('deny');
      }
    }
    expect(judged).toBeGreaterThan(2000);
  });

  test('a policy of the namespace that cannot be read denies there and nowhere else', () => {
    const { state, updater } = createMeshState();
    const here = aWorkload();
    const there = aWorkload({ namespace: 'other', name: 'b', addresses: ['10.0.0.2'] });
    const mesh = {
      type: 'mesh',
      name: 'default',
      version: 'v',
      resource: { rootNamespace: 'istio-system' },
    };
    updater.apply(
      update({
        upserts: [mesh as never, ...upserts({ workloads: [here, there] })],
        undecodable: [{ type: 'policy', name: 'test/broken' }],
      }),
    );
    expect(authorize(state.policiesFor(here), facts)).toMatchObject({
      verdict: 'deny',
      denial: { reason: 'undecodable-policy' },
    });
    expect(authorize(state.policiesFor(there), facts).verdict).toBe('allow');
    updater.apply(update({ removals: [{ type: 'policy', name: 'test/broken' }] }));
    expect(authorize(state.policiesFor(here), facts).verdict).toBe('allow');
  });
});

describe('the view', () => {
  test('an address that is handed on belongs to the newest pod, and back to the older when that goes', () => {
    const { state, updater } = createMeshState();
    const older = aWorkload({ name: 'older' });
    const newer = aWorkload({ name: 'newer' });
    updater.apply(update({ upserts: upserts({ workloads: [older, newer] }) }));
    expect(state.workloadByAddress(address('10.0.0.1'))?.name).toBe('newer');
    updater.apply(update({ removals: [{ type: 'workload', name: newer.uid }] }));
    expect(state.workloadByAddress(address('10.0.0.1'))?.name).toBe('older');
  });

  test('a pod on its host network is found only where nobody has the address to himself', () => {
    const { state, updater } = createMeshState();
    updater.apply(
      update({
        upserts: upserts({
          workloads: [aWorkload({ name: 'own' }), aWorkload({ name: 'host', hostNetwork: true })],
        }),
      }),
    );
    expect(state.workloadByAddress(address('10.0.0.1'))?.name).toBe('own');
  });

  test('endpoints, addresses and names follow what is upserted and removed', () => {
    const { state, updater } = createMeshState();
    const service = aService();
    const key = 'test/svc.test.svc.cluster.local' as never;
    const member = aWorkload({ services: [{ service: key, ready: true, ports: [] }] });
    updater.apply(
      update({ upserts: upserts({ services: [service], workloads: [member] }), complete: true }),
    );
    expect(state.complete).toBe(true);
    expect(state.endpointsOf(key)).toHaveLength(1);
    expect(state.serviceByVip(address('10.96.0.1'))?.name).toBe('svc');
    updater.apply(
      update({
        upserts: upserts({
          services: [aService({ vips: ['10.96.0.2'] })],
          workloads: [aWorkload()],
        }),
      }),
    );
    expect(state.endpointsOf(key)).toHaveLength(0);
    expect(state.serviceByVip(address('10.96.0.1'))).toBeUndefined();
    expect(state.serviceByVip(address('10.96.0.2'))?.name).toBe('svc');
    expect(state.held().find(({ type }) => type === 'service')?.versions).toEqual([[key, 'v']]);
  });

  test('listeners hear the names that changed', () => {
    const { state, updater } = createMeshState();
    const heard: string[] = [];
    const stop = state.subscribe((changes) => heard.push(...(changes.get('policy') ?? [])));
    updater.apply(update({ upserts: upserts({ policies: [aPolicy()] }) }));
    stop();
    updater.apply(update({ removals: [{ type: 'policy', name: 'test/p' }] }));
    expect(heard).toEqual(['test/p' as PolicyKey]);
  });
});
