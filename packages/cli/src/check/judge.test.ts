import { describe, expect, test } from '@jest/globals';
import type { ClusterFacts, PodFacts, ProgramFacts } from './facts.ts';
import { gatewayDefinitions, istioDefinitions, judge } from './judge.ts';

const pod = (node: string, change: Partial<PodFacts> = {}): PodFacts => ({
  name: `pod-${node}`,
  node,
  ready: true,
  version: '0.1.0',
  reason: '',
  ...change,
});

function program(
  kind: ProgramFacts['kind'],
  name: string,
  change: Partial<ProgramFacts> = {},
): ProgramFacts {
  return { kind, name, installed: true, wanted: 2, pods: [pod('n1'), pod('n2')], ...change };
}

const whole: ClusterFacts = {
  namespace: 'istio-system',
  ownVersion: '0.1.0',
  kubernetesVersion: 'v1.34.4',
  nodes: ['n1', 'n2'].map((name) => ({ name, linux: true, taints: [] })),
  programs: [
    program('Deployment', 'ambit-controller'),
    program('DaemonSet', 'ztunnel'),
    program('DaemonSet', 'cni-redirect'),
  ],
  definitions: new Set([...istioDefinitions, ...gatewayDefinitions]),
  gatewayClasses: [
    { name: 'istio-waypoint', controllerName: 'ambit.dev/mesh-controller', accepted: true },
  ],
  webhook: { hasCaBundle: true },
  otherMeshes: [],
  enrolled: [{ name: 'shop/cart', node: 'n1', captured: true }],
  permissions: [{ account: 'cni-redirect', may: 'patch pods', allowed: true }],
};

/** What is not well, by check. */
function troubles(change: Partial<ClusterFacts>): Record<string, string> {
  const found = judge({ ...whole, ...change }).filter(({ state }) => state !== 'ok');
  return Object.fromEntries(
    found.map(({ check, state, message }) => [check, `${state} ${message}`]),
  );
}

test('a whole mesh has nothing to tell', () => {
  expect(troubles({})).toEqual({});
});

describe('a cluster that lacks something is told what, and what to do', () => {
  const agent = (change: Partial<ProgramFacts>): Partial<ClusterFacts> => ({
    programs: [...whole.programs.slice(0, 2), program('DaemonSet', 'cni-redirect', change)],
  });

  test.each<[string, Partial<ClusterFacts>, string, string]>([
    [
      'an old Kubernetes',
      { kubernetesVersion: 'v1.29.3' },
      'kubernetes version',
      'failed v1.29.3 is too old',
    ],
    [
      'a second mesh',
      { otherMeshes: ['DaemonSet istio-system/istio-cni-node'] },
      'only mesh',
      'uninstall one of the two',
    ],
    [
      'definitions',
      { definitions: new Set(gatewayDefinitions) },
      'definitions of Istio',
      'install the chart base',
    ],
    [
      'a program',
      agent({ installed: false, wanted: 0, pods: [] }),
      'cni-redirect',
      'install its chart',
    ],
    [
      'a feature of the kernel',
      agent({
        pods: [
          pod('n1'),
          pod('n2', { ready: false, reason: 'the kernel does not take the rules' }),
        ],
      }),
      'cni-redirect',
      'failed 1 of 2 ready; pod-n2 on n2: the kernel does not take the rules',
    ],
    [
      'a new version',
      agent({ pods: [pod('n1'), pod('n2'), pod('n2', { ready: false, reason: 'it waits' })] }),
      'cni-redirect',
      'warning 2 of 2 ready; pod-n2 on n2: it waits',
    ],
    [
      'an agent on a node',
      agent({ wanted: 1, pods: [pod('n1')] }),
      'nodes',
      'warning n2 without agent or ztunnel',
    ],
    [
      'one version',
      agent({ pods: [pod('n1'), pod('n2', { version: '0.2.0' })] }),
      'versions',
      '0.2.0 (cni-redirect)',
    ],
    [
      'the version of ambitctl',
      { ownVersion: '0.3.0' },
      'versions',
      'ambitctl 0.3.0: take the one of the mesh',
    ],
    [
      'a ready node',
      { nodes: [{ name: 'n1', linux: true, taints: ['cni.istio.io/not-ready'] }] },
      'taints',
      'warning n1 has cni.istio.io/not-ready',
    ],
    ['validation', { webhook: undefined }, 'validation', 'ambit-validator is not there'],
    [
      'a certificate of it',
      { webhook: { hasCaBundle: false } },
      'validation',
      'has no caBundle yet',
    ],
    ['the class of waypoints', { gatewayClasses: [] }, 'gateway classes', 'upgrade the chart base'],
    [
      'its own class of waypoints',
      {
        gatewayClasses: [
          { name: 'istio-waypoint', controllerName: 'istio.io/mesh-controller', accepted: true },
        ],
      },
      'gateway classes',
      'failed istio-waypoint belongs to istio.io/mesh-controller',
    ],
    [
      'a permission',
      { permissions: [{ account: 'cni-redirect', may: 'patch pods', allowed: false }] },
      'permissions',
      'failed cni-redirect may not patch pods',
    ],
    [
      'a captured pod',
      { enrolled: [{ name: 'shop/cart', node: 'n1', captured: false }] },
      'capture',
      'failed shop/cart on n1 ought to be in the mesh and is not',
    ],
  ])('%s', (_, change, check, message) => {
    expect(troubles(change)[check]).toContain(message);
  });
});

test('many of a kind are counted, not listed', () => {
  const enrolled = Array.from({ length: 9 }, (_, index) => ({
    name: `shop/p${index}`,
    node: 'n1',
    captured: false,
  }));
  expect(troubles({ enrolled })['capture']).toContain('shop/p4 on n1 and 4 more');
});
