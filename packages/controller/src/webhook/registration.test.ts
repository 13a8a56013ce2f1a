import { expect, test } from '@jest/globals';

import { completed } from './registration.ts';

const webhook = (name: string, caBundle?: string, failurePolicy = 'Ignore') => ({
  name,
  failurePolicy,
  clientConfig: { service: {}, ...(caBundle === undefined ? {} : { caBundle }) },
});

test('every webhook gets the authority, and the closed one is needed from then on', () => {
  const webhooks = [webhook('validation.ambit.dev'), webhook('root.validation.ambit.dev')];
  expect(completed({ webhooks }, 'cGVt')).toEqual([
    { name: 'validation.ambit.dev', clientConfig: { caBundle: 'cGVt' }, failurePolicy: 'Fail' },
    { name: 'root.validation.ambit.dev', clientConfig: { caBundle: 'cGVt' } },
  ]);
});

test('nothing is written where it stands, whatever the others do when they fail', () => {
  const webhooks = [
    webhook('validation.ambit.dev', 'cGVt', 'Fail'),
    webhook('root.validation.ambit.dev', 'cGVt', 'Fail'),
  ];
  expect(completed({ webhooks }, 'cGVt')).toBeUndefined();
  expect(completed({ webhooks }, 'bmV3')).toHaveLength(2);
});
