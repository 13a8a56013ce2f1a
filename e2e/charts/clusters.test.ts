import { describe, expect, test } from '@jest/globals';
import type { KubeObject } from './helm.ts';
import { namespace, render, renderText } from './helm.ts';

/** What clusters of other kinds than a plain one ask of the charts. */
interface PodSpec {
  readonly containers: readonly {
    readonly resources: { readonly limits?: Readonly<Record<string, string>> };
  }[];
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly affinity?: {
    readonly nodeAffinity: {
      readonly requiredDuringSchedulingIgnoredDuringExecution: {
        readonly nodeSelectorTerms: readonly { readonly matchExpressions: readonly unknown[] }[];
      };
    };
  };
}

const programs = [
  'ambit-controller',
  'ambit-uninstall-release',
  'ambit-uninstall-remove',
  'cni-redirect',
  'ztunnel',
];

type Values = Readonly<Record<string, unknown>>;

function podsOf(values: Values = {}): ReadonlyMap<string, PodSpec> {
  const pods = render('ambit', { values }).flatMap(({ metadata, ...rest }: KubeObject) => {
    const { template } = (rest['spec'] ?? {}) as { template?: { spec: PodSpec } };
    return template === undefined ? [] : [[metadata.name, template.spec] as const];
  });
  return new Map(pods.sort(([a], [b]) => (a < b ? -1 : 1)));
}

describe('nodes on which nothing of the mesh can run', () => {
  const notReal = [
    { key: 'eks.amazonaws.com/compute-type', operator: 'NotIn', values: ['fargate'] },
    { key: 'type', operator: 'NotIn', values: ['virtual-kubelet'] },
  ];
  const termsOf = (pod?: PodSpec) =>
    pod?.affinity?.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;

  test('are those of Windows, for every program', () => {
    const selected = [...podsOf()].map(([name, { nodeSelector }]) => [name, nodeSelector]);
    expect(selected).toEqual(programs.map((name) => [name, { 'kubernetes.io/os': 'linux' }]));
  });

  test('are those that a provider runs single pods on, for what tolerates their taints', () => {
    const pods = podsOf();
    for (const name of programs.filter((one) => one !== 'ambit-controller'))
      expect([name, termsOf(pods.get(name))]).toEqual([name, [{ matchExpressions: notReal }]]);
  });

  test('whatever else is asked of nodes', () => {
    const where = { key: 'role', operator: 'In', values: ['mesh'] };
    const preferred = { weight: 1, preference: { matchExpressions: [where] } };
    const ask = (...nodeSelectorTerms: object[]) => ({
      'ztunnel.affinity.nodeAffinity': {
        requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms },
        preferredDuringSchedulingIgnoredDuringExecution: [preferred],
      },
      'cni-redirect.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution': {
        nodeSelectorTerms,
      },
    });
    const field = { key: 'metadata.name', operator: 'In', values: ['a'] };
    const asked = podsOf(ask({ matchExpressions: [where] }, { matchFields: [field] }));
    const terms = [
      { matchExpressions: [where, ...notReal] },
      { matchExpressions: notReal, matchFields: [field] },
    ];
    expect(termsOf(asked.get('ztunnel'))).toEqual(terms);
    expect(termsOf(asked.get('cni-redirect'))).toEqual(terms);
    expect(asked.get('ztunnel')?.affinity?.nodeAffinity).toMatchObject({
      preferredDuringSchedulingIgnoredDuringExecution: [preferred],
    });
    // A term that asks for nothing is met by no node.
    expect(termsOf(podsOf(ask({})).get('ztunnel'))).toEqual([{}]);
  });
});

describe('a namespace with a quota of limits', () => {
  const limitsOf = (values: Values) =>
    [...podsOf(values)].map(([name, { containers }]) => [
      name,
      Object.keys(containers[0]?.resources.limits ?? {}).sort(),
    ]);

  test('admits what runs around an uninstall as it comes, and the others with limits of their values', () => {
    const cpu = { limits: { cpu: 1 } };
    const values = {
      'controller.resources': cpu,
      'ztunnel.resources': cpu,
      'cni-redirect.resources': cpu,
    };
    expect(limitsOf(values)).toEqual(programs.map((name) => [name, ['cpu', 'memory']]));
  });

  test.each(['controller', 'cni-redirect'] as const)('%s: they may be others', (chart) => {
    const resources = { requests: { cpu: null }, limits: { cpu: 2, 'ephemeral-storage': '1Gi' } };
    const [job] = render(chart, { values: { 'uninstall.resources': resources } }).filter(
      ({ kind }) => kind === 'Job',
    );
    const { template } = job?.['spec'] as { template: { spec: PodSpec } };
    expect(template.spec.containers[0]?.resources).toEqual({
      requests: { memory: '96Mi' },
      limits: { cpu: 2, memory: '256Mi', 'ephemeral-storage': '1Gi' },
    });
    expect(() =>
      renderText(chart, { values: { 'uninstall.resources.limits.memory': '48Mi' } }),
    ).toThrow(/uninstall\.resources: with limits\.memory 48Mi the program never starts/);
  });
});

describe('a namespace whose NetworkPolicy denies everything', () => {
  const policiesOf = (values: Values = {}) =>
    render('ambit', { values }).filter(({ kind }) => kind === 'NetworkPolicy');

  test('lets out what each program of its network asks, the Jobs of an uninstall too', () => {
    const policies = policiesOf();
    // The agent has the network of its node, for which there are no such policies.
    expect(policies.map(({ metadata }) => metadata.name).sort()).toEqual(
      programs.filter((name) => name !== 'cni-redirect'),
    );
    for (const { metadata, spec } of policies)
      expect(spec).toMatchObject({
        podSelector: { matchLabels: { app: metadata.name } },
        policyTypes: ['Ingress', 'Egress'],
        egress: [{}],
      });
    for (const { metadata } of policies) expect(metadata.namespace).toBe(namespace);
  });

  test('is theirs to open who switch that off', () => {
    const off = { 'controller.networkPolicy.enabled': false, 'ztunnel.networkPolicy.enabled': false };
    expect(policiesOf(off).map(({ metadata }) => metadata.name)).toEqual(['ambit-uninstall-release']);
  });
});
