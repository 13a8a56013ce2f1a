import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { decodePeerAuthentication } from '../kube/decode/policy.ts';
import type { CompiledPeerAuthentication } from './peer-authentication.ts';
import { compilePeerAuthentication, olderProblems, resolveMtls } from './peer-authentication.ts';

interface Facts {
  readonly name?: string;
  readonly namespace?: string;
  readonly day?: number;
  readonly app?: string;
  readonly mode?: string;
  readonly ports?: Record<string, string>;
}

function pa({
  name = 'p',
  namespace = 'shop',
  day = 1,
  app,
  mode,
  ports,
}: Facts): CompiledPeerAuthentication {
  const object = {
    metadata: {
      name,
      namespace,
      creationTimestamp: `2026-01-${String(day).padStart(2, '0')}T00:00:00Z`,
    },
    spec: {
      ...(app === undefined ? {} : { selector: { matchLabels: { app } } }),
      ...(mode === undefined ? {} : { mtls: { mode } }),
      ...(ports === undefined
        ? {}
        : {
            portLevelMtls: Object.fromEntries(
              Object.entries(ports).map(([port, portMode]) => [port, { mode: portMode }]),
            ),
          }),
    },
  };
  return compilePeerAuthentication(decoded(decodePeerAuthentication, object), 'istio-system');
}

const workload = { namespace: 'shop', labels: new Map([['app', 'front']]) };
const root = 'istio-system';

describe('precedence', () => {
  test.each<[string, Facts[], string]>([
    ['nothing: PERMISSIVE', [], 'PERMISSIVE'],
    ['mesh', [{ namespace: root, mode: 'STRICT' }], 'STRICT'],
    [
      'namespace over mesh',
      [{ namespace: root, mode: 'STRICT' }, { mode: 'PERMISSIVE' }],
      'PERMISSIVE',
    ],
    [
      'workload over namespace',
      [{ mode: 'PERMISSIVE' }, { app: 'front', mode: 'STRICT' }],
      'STRICT',
    ],
    ['DISABLE is kept', [{ mode: 'DISABLE' }], 'DISABLE'],
    [
      'UNSET namespace takes the mesh',
      [{ namespace: root, mode: 'STRICT' }, { mode: 'UNSET' }],
      'STRICT',
    ],
    [
      'a namespace without mode takes the mesh',
      [{ namespace: root, mode: 'STRICT' }, {}],
      'STRICT',
    ],
    [
      'UNSET workload takes the namespace',
      [{ mode: 'STRICT' }, { app: 'front', mode: 'UNSET' }],
      'STRICT',
    ],
    ['UNSET mesh is PERMISSIVE', [{ namespace: root, mode: 'UNSET' }], 'PERMISSIVE'],
    [
      'another namespace is no business of ours',
      [{ namespace: 'other', mode: 'STRICT' }],
      'PERMISSIVE',
    ],
    ['a selector that selects others', [{ app: 'back', mode: 'STRICT' }], 'PERMISSIVE'],
    [
      'a selector in the root namespace selects only there',
      [{ namespace: root, app: 'front', mode: 'STRICT' }],
      'PERMISSIVE',
    ],
    [
      'the oldest of two namespaces wins',
      [
        { name: 'a', day: 2, mode: 'STRICT' },
        { name: 'b', day: 1, mode: 'PERMISSIVE' },
      ],
      'PERMISSIVE',
    ],
    [
      'the oldest of two on a workload wins',
      [
        { app: 'front', name: 'a', day: 2, mode: 'PERMISSIVE' },
        { app: 'front', name: 'b', day: 1, mode: 'STRICT' },
      ],
      'STRICT',
    ],
    [
      'the oldest of two meshes wins',
      [
        { namespace: root, name: 'a', day: 2, mode: 'PERMISSIVE' },
        { namespace: root, name: 'b', day: 1, mode: 'STRICT' },
      ],
      'STRICT',
    ],
    [
      'equally old: the first by name',
      [
        { name: 'b', mode: 'STRICT' },
        { name: 'a', mode: 'PERMISSIVE' },
      ],
      'PERMISSIVE',
    ],
    [
      'the oldest wins even when UNSET',
      [
        { name: 'a', day: 1, mode: 'UNSET' },
        { name: 'b', day: 2, mode: 'STRICT' },
      ],
      'PERMISSIVE',
    ],
  ])('%s', (_name, facts, mode) => {
    expect(resolveMtls(facts.map(pa), workload)).toEqual({ mode, ports: [] });
    expect(resolveMtls([...facts].reverse().map(pa), workload)).toEqual({ mode, ports: [] });
  });

  test('in the root namespace a policy without selector is mesh-wide there too', () => {
    const own = { namespace: root, labels: new Map<string, string>() };
    expect(resolveMtls([pa({ namespace: root, mode: 'STRICT' })], own).mode).toBe('STRICT');
  });
});

describe('ports', () => {
  test.each<[string, Facts[], { port: number; mode: string }[]]>([
    [
      'win over the mode',
      [{ app: 'front', mode: 'STRICT', ports: { 8080: 'PERMISSIVE', 80: 'DISABLE' } }],
      [
        { port: 80, mode: 'DISABLE' },
        { port: 8080, mode: 'PERMISSIVE' },
      ],
    ],
    ['UNSET takes the mode', [{ app: 'front', mode: 'STRICT', ports: { 80: 'UNSET' } }], []],
    [
      'under an UNSET mode stand beside the inherited one',
      [{ mode: 'STRICT' }, { app: 'front', ports: { 80: 'PERMISSIVE' } }],
      [{ port: 80, mode: 'PERMISSIVE' }],
    ],
    [
      'only those of the winning policy',
      [
        { app: 'front', name: 'a', day: 1, mode: 'STRICT', ports: { 80: 'PERMISSIVE' } },
        { app: 'front', name: 'b', day: 2, mode: 'STRICT', ports: { 81: 'PERMISSIVE' } },
      ],
      [{ port: 80, mode: 'PERMISSIVE' }],
    ],
  ])('%s', (_name, facts, ports) => {
    expect(resolveMtls(facts.map(pa), workload)).toEqual({ mode: 'STRICT', ports });
  });

  test('without a selector have no effect and are told', () => {
    const compiled = pa({ mode: 'STRICT', ports: { 80: 'DISABLE' } });
    expect(compiled.problems).toMatchObject([{ field: 'spec.portLevelMtls[80]' }]);
    expect(resolveMtls([compiled], workload)).toEqual({ mode: 'STRICT', ports: [] });
  });

  test('that are no ports are told and left out', () => {
    const compiled = pa({ app: 'front', mode: 'STRICT', ports: { http: 'DISABLE', 0: 'DISABLE' } });
    expect(compiled.problems).toHaveLength(2);
    expect(compiled.ports).toEqual([]);
  });
});

describe('one that breaks its schema', () => {
  test.each<[string, Facts, string]>([
    ['demands mutual TLS of its namespace', { mode: 'SOMETIMES' }, 'namespace'],
    ['demands it of whom it selects', { app: 'front', mode: 'SOMETIMES' }, 'workload'],
    ['demands it of the mesh', { namespace: root, mode: 'SOMETIMES' }, 'mesh'],
  ])('%s', (_name, facts, scope) => {
    const compiled = pa(facts);
    expect(compiled).toMatchObject({ scope, mode: 'STRICT' });
    expect(compiled.problems).toMatchObject([
      { field: 'spec.mtls.mode', message: 'must be one of UNSET, DISABLE, PERMISSIVE, STRICT' },
    ]);
  });
});

describe('what has no effect is told', () => {
  test.each<[string, Facts, number]>([
    ['nothing at all', {}, 1],
    ['UNSET', { mode: 'UNSET' }, 1],
    ['UNSET for whom it selects, and for a port', { app: 'a', ports: { 80: 'UNSET' } }, 1],
    ['the mode of a port alone', { app: 'a', ports: { 80: 'DISABLE' } }, 0],
    ['STRICT', { mode: 'STRICT' }, 0],
  ])('%s', (_name, facts, count) => {
    expect(pa(facts).problems.map(({ field, reason }) => [field, reason])).toEqual(
      Array.from({ length: count }, () => ['spec.mtls.mode', 'NoEffect']),
    );
  });

  test('one beside an older one that holds for as many', () => {
    const told = (one: Facts, ...others: Facts[]): readonly string[] =>
      olderProblems(pa(one), [one, ...others].map(pa)).map(({ message }) => message);
    const old: Facts = { name: 'old', mode: 'STRICT' };
    const young: Facts = { name: 'a', mode: 'STRICT', day: 2 };
    const why = 'old is older and alone holds for the whole namespace; merge them';
    expect(told(young, old)).toEqual([why]);
    expect(told(old, young)).toEqual([]);
    expect(told(young, { ...old, namespace: root })).toEqual([]);
    expect(told({ ...young, namespace: root }, { ...old, namespace: root })).toEqual([
      why.replace('namespace', 'mesh'),
    ]);
    expect(told({ ...young, app: 'a' }, { ...old, app: 'a' }, old)).toEqual([]);
  });
});
