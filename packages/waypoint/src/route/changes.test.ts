import { expect, test } from '@jest/globals';
import { climbs, rewritePath } from './changes.ts';

const toPublic = { kind: 'prefix', matched: '/api', value: '/public/' } as const;

test.each([
  ['/api../secret', true],
  ['/api..', true],
  ['/api./x', true],
  ['/api/fine', false],
  ['/api...x', false],
  ['/api.hidden?next=/../x', false],
])('a prefix that is cut off from %s climbs: %s', (target, does) => {
  expect(climbs(rewritePath(target, toPublic))).toBe(does);
});

test('a value with dots climbs however they are written', () => {
  expect(climbs('/a/%2e%2E/b')).toBe(true);
  expect(climbs('/a%2f..%2fb')).toBe(true);
  expect(climbs('/a\\..\\b')).toBe(true);
});
