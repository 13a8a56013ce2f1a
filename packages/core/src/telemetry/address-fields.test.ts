import { expect, test } from '@jest/globals';
import { addressFields } from './address-fields.ts';
import { compileFormat } from './format.ts';

const entry = {
  upstreamLocalAddress: undefined,
  downstreamLocalAddress: '[fd00::1]:8080',
  downstreamRemoteAddress: '10.0.0.1:4711',
};

test.each([
  ['DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', '10.0.0.1'],
  ['DOWNSTREAM_REMOTE_PORT', 4711],
  ['DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT', 'fd00::1'],
  ['DOWNSTREAM_LOCAL_PORT', 8080],
  ['UPSTREAM_LOCAL_PORT', undefined],
])('%s reads its half of the address', (name, value) => {
  expect(new Map(addressFields).get(name)?.(entry)).toBe(value);
});

test('a format may name half of an address', () => {
  expect(compileFormat('%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%').ok).toBe(
    true,
  );
});
