import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodePod } from '../kube/decode/pod.ts';
import { compileWorkload, isWorkload, workloadOwner } from './workload.ts';

const cluster = {
  clusterId: 'c1',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};

function pod(metadata: object = {}, spec: object = {}, status: object = {}) {
  return decoded(decodePod, {
    metadata: { name: 'front-7d9f-x1', namespace: 'shop', ...metadata },
    spec: { nodeName: 'node-a', ...spec },
    status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }, { ip: 'FD00::0001' }], ...status },
  });
}

function compile(record: ReturnType<typeof pod>) {
  const mtls = { mode: 'PERMISSIVE', ports: [] } as const;
  const parts = {
    pod: record,
    locality: undefined,
    network: 'net',
    mtls,
    policies: [],
    services: [],
    waypoint: { waypointIdentities: [] },
  };
  return compileWorkload(parts, cluster);
}

test('every field', () => {
  expect(compile(pod())).toEqual({
    uid: 'c1//Pod/shop/front-7d9f-x1',
    name: 'front-7d9f-x1',
    namespace: 'shop',
    serviceAccount: 'default',
    trustDomain: 'cluster.local',
    addresses: ['10.0.0.1', 'fd00::1'],
    hostNetwork: false,
    node: 'node-a',
    network: 'net',
    clusterId: 'c1',
    locality: { region: '', zone: '', subzone: '' },
    tunnel: 'none',
    workloadName: 'front-7d9f-x1',
    workloadKind: 'pod',
    canonicalName: 'front-7d9f-x1',
    canonicalRevision: 'latest',
    mtls: { mode: 'PERMISSIVE', ports: [] },
    policies: [],
    services: [],
    labels: [],
    waypointIdentities: [],
  });
});

describe('which pods are workloads', () => {
  test.each([
    ['Running', {}, true],
    ['Pending with an address', { phase: 'Pending' }, true],
    ['without an address', { podIPs: [], podIP: '' }, false],
    ['Succeeded', { phase: 'Succeeded' }, false],
    ['Failed', { phase: 'Failed' }, false],
    ['of an unknown phase', { phase: 'Gone' }, true],
    ['with an address that is none', { podIPs: [{ ip: 'x' }] }, false],
    ['with the old field alone', { podIPs: undefined, podIP: '10.0.0.9' }, true],
  ])('%s', (_name, status, expected) => {
    expect(isWorkload(pod({}, {}, status))).toBe(expected);
  });
});

describe('how it is reached', () => {
  const redirected = { annotations: { 'ambient.istio.io/redirection': 'enabled' } };
  test.each([
    [
      'the label of the namespace or pod alone',
      { labels: { 'istio.io/dataplane-mode': 'ambient' } },
      {},
      'none',
    ],
    ['the annotation that the agent writes', redirected, {}, 'hbone'],
    [
      'a pending redirection',
      { annotations: { 'ambient.istio.io/redirection': 'pending' } },
      {},
      'none',
    ],
    [
      'the label of a pod that does it itself',
      { labels: { 'networking.istio.io/tunnel': 'http' } },
      {},
      'hbone',
    ],
    ['hostNetwork, whatever is written', redirected, { hostNetwork: true }, 'none'],
  ])('%s', (_name, metadata, spec, tunnel) => {
    expect(compile(pod(metadata, spec)).tunnel).toBe(tunnel);
  });
});

describe('owner', () => {
  const owned = (kind: string, name: string, labels: object = {}) =>
    workloadOwner(pod({ labels, ownerReferences: [{ kind, name, controller: true }] }));
  test.each([
    ['ReplicaSet', 'front-7d9f', { 'pod-template-hash': '7d9f' }, 'deployment', 'front'],
    ['ReplicaSet', 'front-7d9f', {}, 'pod', 'front-7d9f'],
    ['DaemonSet', 'agent', {}, 'daemonset', 'agent'],
    ['StatefulSet', 'db', {}, 'statefulset', 'db'],
    ['Job', 'once', {}, 'job', 'once'],
    ['Job', 'nightly-29384756', {}, 'cronjob', 'nightly'],
    ['Widget', 'w', {}, 'pod', 'front-7d9f-x1'],
  ])('%s %s', (kind, name, labels, expectedKind, expectedName) => {
    expect(owned(kind, name, labels)).toEqual({ kind: expectedKind, name: expectedName });
  });
  test('one that does not control it does not count', () => {
    const references = [{ kind: 'ReplicaSet', name: 'x' }];
    expect(workloadOwner(pod({ ownerReferences: references })).kind).toBe('pod');
  });
});

test.each([
  [{ 'service.istio.io/canonical-name': 'a', 'app.kubernetes.io/name': 'b', app: 'c' }, 'a'],
  [{ 'app.kubernetes.io/name': 'b', app: 'c' }, 'b'],
  [{ app: 'c' }, 'c'],
  [{ app: '' }, 'front-7d9f-x1'],
])('canonical name of %j', (labels, name) => {
  expect(compile(pod({ labels })).canonicalName).toBe(name);
});

test.each([
  [{ 'service.istio.io/canonical-revision': 'a', version: 'c' }, 'a'],
  [{ 'app.kubernetes.io/version': 'b', version: 'c' }, 'b'],
  [{ version: 'c' }, 'c'],
])('canonical revision of %j', (labels, revision) => {
  expect(compile(pod({ labels })).canonicalRevision).toBe(revision);
});
