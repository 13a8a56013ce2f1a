import { describe, expect, test } from '@jest/globals';
import type { KubeObject } from './helm.ts';
import { render } from './helm.ts';

/** What clusters of other kinds than a plain one ask of the charts. */
interface PodSpec {
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
