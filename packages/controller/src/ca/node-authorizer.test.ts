import { describe, expect, test } from '@jest/globals';

import { aPod, trustDomain } from '../../test/support.ts';
import type { PodFacts } from '../../test/support.ts';
import { decoded, value } from '../../test/records.ts';
import { accountOnNode, createSources } from '../collections/sources.ts';
import { makeSpiffeIdentity } from '@ambit/api';
import { decodePod } from '../kube/decode/pod.ts';
import type { Caller, PodView } from './node-authorizer.ts';
import { authorizeIdentity, authorizeNodeProxy } from './node-authorizer.ts';

const ztunnel: PodFacts = {
  name: 'ztunnel-a',
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  uid: 'uid-a',
  node: 'node-a',
};
const caller: Caller = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  podName: 'ztunnel-a',
  podUid: 'uid-a',
};
const authorization = {
  trustDomain: trustDomain(),
  trustedAccounts: new Set(['istio-system/ztunnel']),
  gatewayAccount: (namespace: string, gateway: string) =>
    namespace === 'shop' && gateway === 'waypoint' ? 'waypoint' : undefined,
};

function viewOf(...facts: readonly PodFacts[]): PodView {
  const { pods } = createSources();
  for (const one of facts) {
    const pod = decoded(decodePod, aPod(one));
    pods.set(`${pod.meta.namespace}/${pod.meta.name}`, pod);
  }
  return {
    podByName: (namespace, name) => pods.get(`${namespace}/${name}`),
    runsOnNode: (node, namespace, serviceAccount) =>
      pods.find('account', accountOnNode({ meta: { namespace }, serviceAccount, node })).length > 0,
  };
}

function ask(
  view: PodView,
  from: Caller,
  namespace: string,
  account: string,
  domain = 'cluster.local',
) {
  const proxy = authorizeNodeProxy(from, view, authorization);
  if (!proxy.ok) return proxy.error;
  const requested = value(makeSpiffeIdentity(trustDomain(domain), namespace, account));
  const identity = authorizeIdentity(proxy.value, requested, view, authorization);
  return identity.ok ? 'permitted' : identity.error;
}

describe('a node proxy asks for an identity', () => {
  const front: PodFacts = { name: 'front-1', serviceAccount: 'front', node: 'node-a' };

  test('1: of a pod on its node', () => {
    expect(ask(viewOf(ztunnel, front), caller, 'shop', 'front')).toBe('permitted');
  });
  test('2: with an account that is not trusted', () => {
    const other = { ...caller, serviceAccount: 'front' };
    expect(ask(viewOf(ztunnel, front), other, 'shop', 'front')).toBe('account-not-trusted');
    const elsewhere = { ...caller, namespace: 'shop' };
    expect(ask(viewOf(ztunnel, front), elsewhere, 'shop', 'front')).toBe('account-not-trusted');
  });
  test('3: with a token that is bound to no pod', () => {
    expect(ask(viewOf(ztunnel, front), { ...caller, podName: '' }, 'shop', 'front')).toBe(
      'token-without-pod',
    );
    expect(ask(viewOf(ztunnel, front), { ...caller, podUid: '' }, 'shop', 'front')).toBe(
      'token-without-pod',
    );
  });
  test('4: from a pod that does not exist', () => {
    expect(ask(viewOf(front), caller, 'shop', 'front')).toBe('caller-pod-unknown');
  });
  test('5: from a pod that was replaced under its name', () => {
    const replaced = { ...ztunnel, uid: 'uid-b' };
    expect(ask(viewOf(replaced, front), caller, 'shop', 'front')).toBe('caller-pod-replaced');
  });
  test('6: from a pod that runs as another account', () => {
    const other = { ...ztunnel, serviceAccount: 'default' };
    expect(ask(viewOf(other, front), caller, 'shop', 'front')).toBe('caller-account-differs');
  });
  test('7: that has its pods on another node', () => {
    const away = { ...front, node: 'node-b' };
    expect(ask(viewOf(ztunnel, away), caller, 'shop', 'front')).toBe('identity-not-on-node');
    const sameNameElsewhere = { ...front, namespace: 'other' };
    expect(ask(viewOf(ztunnel, sameNameElsewhere), caller, 'shop', 'front')).toBe(
      'identity-not-on-node',
    );
  });
  test('8: whose only pod on the node has ended', () => {
    for (const phase of ['Succeeded', 'Failed']) {
      expect(ask(viewOf(ztunnel, { ...front, phase }), caller, 'shop', 'front')).toBe(
        'identity-not-on-node',
      );
      const second = { ...front, name: 'front-2' };
      expect(ask(viewOf(ztunnel, { ...front, phase }, second), caller, 'shop', 'front')).toBe(
        'permitted',
      );
    }
  });
  test('9: from a pod that has ended, or has no node yet', () => {
    expect(ask(viewOf({ ...ztunnel, phase: 'Failed' }, front), caller, 'shop', 'front')).toBe(
      'caller-pod-ended',
    );
    expect(ask(viewOf({ ...ztunnel, node: '' }, front), caller, 'shop', 'front')).toBe(
      'caller-pod-without-node',
    );
  });
  test('of another trust domain', () => {
    expect(ask(viewOf(ztunnel, front), caller, 'shop', 'front', 'evil.example')).toBe(
      'foreign-trust-domain',
    );
  });
});

test('a million random questions get no wrong answer', () => {
  const nodes = 20;
  const accounts = 50;
  // A seeded generator, so that a failure comes again.
  let seed = 12_345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const facts: PodFacts[] = [];
  const truth = new Set<string>();
  for (let node = 0; node < nodes; node += 1) {
    facts.push({ ...ztunnel, name: `z-${node}`, uid: `z-${node}`, node: `n-${node}` });
  }
  for (let index = 0; index < 400; index += 1) {
    const node = `n-${random(nodes)}`;
    const account = `a-${random(accounts)}`;
    const phase = random(4) === 0 ? 'Failed' : 'Running';
    if (phase === 'Running') truth.add(`${node} ${account}`);
    facts.push({ name: `p-${index}`, node, serviceAccount: account, phase });
  }
  const view = viewOf(...facts);
  let permitted = 0;
  for (let trial = 0; trial < 1_000_000; trial += 1) {
    const node = random(nodes);
    const account = `a-${random(accounts)}`;
    const from = { ...caller, podName: `z-${node}`, podUid: `z-${node}` };
    const expected = truth.has(`n-${node} ${account}`);
    if (expected) permitted += 1;
    if ((ask(view, from, 'shop', account) === 'permitted') !== expected) {
      throw new Error(`wrong answer for n-${node} ${account}`);
    }
  }
  expect(permitted).toBeGreaterThan(10_000);
});

describe('a proxy of a Gateway asks for an identity', () => {
  const waypoint: PodFacts = {
    name: 'waypoint-1',
    serviceAccount: 'waypoint',
    uid: 'uid-w',
    node: 'node-a',
    labels: { 'gateway.networking.k8s.io/gateway-name': 'waypoint' },
  };
  const from: Caller = {
    namespace: 'shop',
    serviceAccount: 'waypoint',
    podName: 'waypoint-1',
    podUid: 'uid-w',
  };
  const front: PodFacts = { name: 'front-1', serviceAccount: 'front', node: 'node-a' };

  test('its own', () => {
    expect(ask(viewOf(waypoint, front), from, 'shop', 'waypoint')).toBe('permitted');
  });
  test('of a pod on its node', () => {
    expect(ask(viewOf(waypoint, front), from, 'shop', 'front')).toBe('identity-not-its-own');
  });
  test('of another namespace or trust domain', () => {
    expect(ask(viewOf(waypoint), from, 'other', 'waypoint')).toBe('identity-not-its-own');
    expect(ask(viewOf(waypoint), from, 'shop', 'waypoint', 'other')).toBe('foreign-trust-domain');
  });
  test('without the label, or with that of a Gateway that is none', () => {
    const bare = { ...waypoint, labels: {} };
    expect(ask(viewOf(bare), from, 'shop', 'waypoint')).toBe('account-not-trusted');
    const other = { ...waypoint, labels: { 'gateway.networking.k8s.io/gateway-name': 'other' } };
    expect(ask(viewOf(other), from, 'shop', 'waypoint')).toBe('account-not-trusted');
  });
  test('under another account than the Gateway was given', () => {
    const other = { ...from, serviceAccount: 'front' };
    expect(ask(viewOf({ ...waypoint, serviceAccount: 'front' }), other, 'shop', 'front')).toBe(
      'account-not-trusted',
    );
  });
  test('a pod that was replaced', () => {
    expect(ask(viewOf({ ...waypoint, uid: 'uid-x' }), from, 'shop', 'waypoint')).toBe(
      'caller-pod-replaced',
    );
  });
});
