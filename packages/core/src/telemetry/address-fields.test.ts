import { expect, test } from '@jest/globals';
import type { AccessEntry } from './access-entry.ts';
import { addressFields } from './address-fields.ts';

const entry = {
  upstreamHost: '10.0.0.2:80',
  upstreamLocalAddress: undefined,
  downstreamLocalAddress: '[fd00::1]:8080',
  downstreamRemoteAddress: '10.0.0.1:4711',
} as AccessEntry;

test.each([
  ['DOWNSTREAM_REMOTE_ADDRESS', '10.0.0.1:4711'],
  ['DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', '10.0.0.1'],
  ['DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT', '10.0.0.1'],
  ['DOWNSTREAM_REMOTE_PORT', 4711],
  ['DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT', 'fd00::1'],
  ['DOWNSTREAM_LOCAL_PORT', 8080],
  ['UPSTREAM_REMOTE_ADDRESS', '10.0.0.2:80'],
  ['UPSTREAM_REMOTE_PORT', 80],
  ['UPSTREAM_LOCAL_PORT', undefined],
])('%s reads its part of the address', (name, value) => {
  expect(new Map(addressFields).get(name)?.(entry)).toBe(value);
});
