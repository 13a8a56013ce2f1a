import { describe, expect, test } from '@jest/globals';
import { builtinResources } from './builtins.ts';
import { age } from './columns.ts';
import { valuesAtPath } from './json-path.ts';
import type { KubeObject } from './object.ts';
import type { ResourceDefinition } from './registry.ts';
import { tableOf } from './table.ts';

const nowMs = Date.parse('2026-01-01T01:00:00Z');

function definition(resource: string): ResourceDefinition {
  const found = builtinResources.find(({ key }) => key.resource === resource);
  if (found === undefined) throw new Error(`no resource ${resource}`);
  return found;
}

function cellsOf(resource: string, content: Partial<KubeObject>): unknown[] {
  const object: KubeObject = {
    apiVersion: 'v1',
    kind: 'X',
    ...content,
    metadata: { name: 'a', creationTimestamp: '2026-01-01T00:58:00Z', ...content.metadata },
  };
  const request = {
    definition: definition(resource),
    version: 'v1',
    tableVersion: 'v1',
    include: 'None',
    nowMs,
  } as const;
  const table = tableOf([object], {}, request);
  return (table['rows'] as { cells: unknown[] }[])[0]?.cells ?? [];
}

test.each([
  [0, '0s'],
  [119, '119s'],
  [120, '2m'],
  [185, '3m5s'],
  [3600, '60m'],
  [3 * 3600 + 60, '3h1m'],
  [9 * 3600, '9h'],
  [50 * 3600, '2d2h'],
  [30 * 86_400, '30d'],
  [800 * 86_400, '2y70d'],
])('%d seconds are %s', (seconds, text) => {
  expect(age(new Date(nowMs - seconds * 1000).toISOString(), nowMs)).toBe(text);
});

describe('pods', () => {
  const spec = { containers: [{ name: 'a' }, { name: 'b' }], nodeName: 'n1' };

  test('ready, restarts with the time of the last, address and node', () => {
    const containerStatuses = [
      {
        ready: true,
        restartCount: 2,
        state: { running: {} },
        lastState: { terminated: { finishedAt: '2026-01-01T00:59:30Z' } },
      },
      { ready: false, restartCount: 0, state: { running: {} } },
    ];
    const status = { phase: 'Running', podIP: '10.0.0.1', containerStatuses };
    expect(cellsOf('pods', { spec, status })).toEqual([
      'a', '1/2', 'Running', '2 (30s ago)', '2m', '10.0.0.1', 'n1', '<none>', '<none>',
    ]); // prettier-ignore
  });

  test.each([
    [
      {
        phase: 'Pending',
        containerStatuses: [{ state: { waiting: { reason: 'CrashLoopBackOff' } } }],
      },
      'CrashLoopBackOff',
    ],
    [
      { phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode: 3 } } }] },
      'ExitCode:3',
    ],
    [{ phase: 'Failed', reason: 'Evicted' }, 'Evicted'],
    [{ phase: 'Pending', initContainerStatuses: [{ state: { running: {} } }] }, 'Init:0/0'],
  ])('status %j shows as %s', (status, shown) => {
    expect(cellsOf('pods', { spec, status })[2]).toBe(shown);
  });

  test('one that is deleted is Terminating', () => {
    const metadata = { name: 'a', deletionTimestamp: '2026-01-01T01:00:30Z' };
    expect(cellsOf('pods', { spec, status: { phase: 'Running' }, metadata })[2]).toBe(
      'Terminating',
    );
  });
});

test('a service shows its ports with node ports, and what balances it', () => {
  const spec = {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.11',
    selector: { app: 'web' },
    ports: [
      { port: 80, nodePort: 30_000, protocol: 'TCP' },
      { port: 53, protocol: 'UDP' },
    ],
  };
  expect(cellsOf('services', { spec })).toEqual([
    'a', 'LoadBalancer', '10.96.0.11', '<pending>', '80:30000/TCP,53/UDP', '2m', 'app=web',
  ]); // prettier-ignore
});

test('a node shows its state, roles and version', () => {
  const cells = cellsOf('nodes', {
    metadata: { name: 'a', labels: { 'node-role.kubernetes.io/control-plane': '' } },
    spec: { unschedulable: true },
    status: {
      conditions: [{ type: 'Ready', status: 'True' }],
      nodeInfo: { kubeletVersion: 'v1.34.0' },
    },
  });
  expect(cells.slice(1, 3)).toEqual(['Ready,SchedulingDisabled', 'control-plane']);
});

test('columns of a custom resource come from its definition', () => {
  const custom: ResourceDefinition = {
    ...definition('leases'),
    custom: true,
    versions: [
      {
        name: 'v1',
        served: true,
        status: true,
        columns: [
          {
            name: 'Ready',
            type: 'string',
            jsonPath: '.status.conditions[?(@.type=="Ready")].status',
          },
          { name: 'Since', type: 'date', jsonPath: '.status.since' },
          { name: 'Size', type: 'integer', jsonPath: '.spec.size', priority: 1 },
        ],
      },
    ],
  };
  const object = {
    apiVersion: 'example.com/v1',
    kind: 'Widget',
    metadata: { name: 'a' },
    spec: { size: 'not a number' },
    status: { since: '2026-01-01T00:59:00Z', conditions: [{ type: 'Ready', status: 'True' }] },
  };
  const request = {
    definition: custom,
    version: 'v1',
    tableVersion: 'v1',
    include: 'Metadata',
    nowMs,
  } as const;
  expect(tableOf([object], {}, request)).toMatchObject({
    columnDefinitions: [
      { name: 'Name' },
      { name: 'Ready' },
      { name: 'Since' },
      { name: 'Size', priority: 1 },
    ],
    rows: [
      {
        cells: ['a', 'True', '60s', null],
        object: { kind: 'PartialObjectMetadata', metadata: { name: 'a' } },
      },
    ],
  });
});

test.each([
  ['.a.b', [1]],
  ['.list[1].name', ['y']],
  ['.list[*].name', ['x', 'y']],
  [".labels['example.com/x']", ['z']],
  ['.labels.example\\.com/x', ['z']],
  ['.list[?(@.name=="y")].value', [2]],
  ['.missing.at.all', []],
  ['.__proto__', []],
  ['..[', []],
])('the path %s finds %j', (path, found) => {
  const value = {
    a: { b: 1 },
    list: [{ name: 'x' }, { name: 'y', value: 2 }],
    labels: { 'example.com/x': 'z' },
  };
  expect(valuesAtPath(value, path)).toEqual(found);
});
