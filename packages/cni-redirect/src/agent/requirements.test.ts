import { expect, test } from '@jest/globals';
import { missingCapabilities } from './requirements.ts';

const status = (effective: string): string => `Name:\tnode\nCapEff:\t${effective}\nCapBnd:\t0\n`;

test.each([
  ['000001ffffffffff', undefined],
  ['0000000000201000', undefined],
  ['0000000000001000', 'the agent lacks CAP_SYS_ADMIN (to enter'],
  ['0000000000200000', 'the agent lacks CAP_NET_ADMIN (to write'],
  ['0000000000000000', 'CAP_NET_ADMIN (to write rules and routes) and CAP_SYS_ADMIN'],
])('capabilities %s: %s', (effective, problem) => {
  const found = missingCapabilities(status(effective));
  if (problem === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(problem);
});
