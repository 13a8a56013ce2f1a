import { describe, expect, test } from '@jest/globals';
import type { ResourceCall } from './context.ts';
import type { KubeObject } from './object.ts';
import type { Write } from './webhook-rules.ts';
import { matchingWebhooks } from './webhook-rules.ts';

const rule = {
  apiGroups: ['a.b'],
  apiVersions: ['*'],
  operations: ['CREATE'],
  resources: ['things'],
};

function names(webhook: object, write: Partial<Write> = {}, route: object = {}): string[] {
  const configuration = {
    metadata: { name: 'c' },
    webhooks: [{ name: 'w', clientConfig: {}, rules: [rule], ...webhook }],
  } as unknown as KubeObject;
  const call = {
    definition: { namespaced: true },
    route: { key: { group: 'a.b', resource: 'things' }, version: 'v1', ...route },
  } as unknown as ResourceCall;
  const after = { metadata: { name: 'one', labels: { app: 'x' } } } as unknown as KubeObject;
  const asked: Write = {
    operation: 'CREATE',
    before: undefined,
    after,
    namespaceLabels: { team: 'a' },
    ...write,
  };
  return matchingWebhooks([configuration], call, asked).map(({ name }) => name);
}

describe('a webhook looks at a write', () => {
  test('of its groups, versions, resources and operations', () => {
    expect(names({})).toEqual(['w']);
    expect(names({}, { operation: 'UPDATE' })).toEqual([]);
    expect(names({}, {}, { key: { group: 'a.c', resource: 'things' } })).toEqual([]);
    expect(names({}, {}, { key: { group: 'a.b', resource: 'others' } })).toEqual([]);
    expect(names({ rules: [{ ...rule, apiVersions: ['v2'] }] })).toEqual([]);
    expect(names({ rules: [{ ...rule, scope: 'Cluster' }] })).toEqual([]);
  });

  test('of subresources only where it names them', () => {
    const status = { subresource: 'status' };
    expect(names({}, {}, status)).toEqual([]);
    expect(names({ rules: [{ ...rule, resources: ['*'] }] }, {}, status)).toEqual([]);
    expect(names({ rules: [{ ...rule, resources: ['things/status'] }] }, {}, status)).toEqual([
      'w',
    ]);
    expect(names({ rules: [{ ...rule, resources: ['things/*'] }] }, {}, status)).toEqual(['w']);
    expect(names({ rules: [{ ...rule, resources: ['*/status'] }] }, {}, status)).toEqual(['w']);
  });

  test('where its selectors fit the namespace and the object as it was or will be', () => {
    const without = (values: readonly string[]) => ({
      matchExpressions: [{ key: 'team', operator: 'NotIn', values }],
    });
    expect(names({ namespaceSelector: without(['a']) })).toEqual([]);
    expect(names({ namespaceSelector: without(['b']) })).toEqual(['w']);
    expect(names({ namespaceSelector: without(['a']) }, { namespaceLabels: undefined })).toEqual([
      'w',
    ]);
    const selector = { objectSelector: { matchLabels: { app: 'y' } } };
    expect(names(selector)).toEqual([]);
    const before = { metadata: { name: 'one', labels: { app: 'y' } } } as unknown as KubeObject;
    expect(names(selector, { before })).toEqual(['w']);
  });
});
