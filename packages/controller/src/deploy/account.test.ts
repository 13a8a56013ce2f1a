import { expect, test } from '@jest/globals';

import { field } from '../kube/decode/fields.ts';
import { underAccount } from './account.ts';

const metadata = { name: 'w', namespace: 'shop', labels: {}, ownerReferences: [] };
const object = { apiVersion: 'apps/v1', kind: 'Deployment', metadata, spec: { template: {} } };
const mark = (uid: string) => ({ annotations: { 'ambit.dev/service-account': uid } });
const found = (own?: string, ofPods?: string): object => ({
  metadata: own === undefined ? {} : mark(own),
  spec: { template: { metadata: ofPods === undefined ? {} : mark(ofPods) } },
});

test.each([
  ['a new one says nothing on its pods', undefined, true, undefined],
  ['one that never knew its account says nothing', found(), false, undefined],
  ['one whose account was made just now has its pods replaced', found(), true, 'b'],
  ['the same account leaves the pods alone', found('b'), false, undefined],
  ['another account replaces them', found('a'), false, 'b'],
  ['another once more does, too', found('a', 'a'), false, 'b'],
  ['what they bear stays', found('b', 'b'), false, 'b'],
])('a Deployment and its ServiceAccount: %s', (_name, standing, isNew, expected) => {
  const before = { wanted: { collection: '/apis/apps/v1', object }, found: standing };
  const { wanted } = underAccount(before, { uid: 'b', isNew });
  const key = 'ambit.dev/service-account';
  expect(field(wanted.object, 'metadata', 'annotations', key)).toBe('b');
  expect(field(wanted.object, 'spec', 'template', 'metadata', 'annotations', key)).toBe(expected);
});
