import { expect, test } from '@jest/globals';
import type { Port, Redirect } from '@ambit/api';
import { climbs, locationOf, rewritePath } from './changes.ts';

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

test.each<[string, Partial<Redirect>, string]>([
  ['nothing but a status', {}, 'http://shop:8080/b?y=2'],
  ['another scheme: its port stays', { scheme: 'https' }, 'https://shop:8080/b?y=2'],
  ['the port of a scheme', { scheme: 'https', derivePort: 'from-protocol' }, 'https://shop/b?y=2'],
  ['another host: the port is of the old one', { authority: 'cart' }, 'http://cart/b?y=2'],
  ['a path', { path: { kind: 'full', value: '/a' } }, 'http://shop:8080/a?y=2'],
  ['a path with a query', { path: { kind: 'full', value: '/a?x=1' } }, 'http://shop:8080/a?x=1'],
  [
    'a prefix with a query',
    { path: { kind: 'prefix', matched: '/b', value: '/a?x=1' } },
    'http://shop:8080/a?x=1',
  ],
])('a redirect of %s', (_name, redirect, location) => {
  const request = { scheme: 'http', authority: 'shop:8080', path: '/b?y=2', port: 80 as Port };
  expect(locationOf({ status: 301, ...redirect }, request)).toBe(location);
});

test('a port that goes without saying goes with the scheme', () => {
  const request = { scheme: 'http', authority: 'shop:80', path: '/', port: 80 as Port };
  expect(locationOf({ status: 301, scheme: 'https' }, request)).toBe('https://shop/');
});
