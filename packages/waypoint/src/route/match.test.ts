import { describe, expect, test } from '@jest/globals';
import type { HttpMatch, HttpRoute } from '@ambit/api';
import { noChanges } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import type { RouteFacts } from './match.ts';
import { RouteIndex } from './match.ts';

function any(fields: Partial<HttpMatch> = {}): HttpMatch {
  return {
    ignorePathCase: false,
    sourceLabels: [],
    headers: [],
    withoutHeaders: [],
    query: [],
    ...fields,
  };
}

function route(name: string, fields: Partial<HttpRoute> = {}): HttpRoute {
  return {
    name,
    matches: [],
    action: { kind: 'respond', status: 200, body: name, contentType: 'text/plain' },
    request: noChanges,
    response: noChanges,
    fault: {},
    mirrors: [],
    ...fields,
  };
}

const under = (value: string): readonly HttpMatch[] => [any({ path: { kind: 'prefix', value } })];

function found(
  routes: readonly HttpRoute[],
  path: string,
  more: Partial<RouteFacts> = {},
): string | undefined {
  const facts = {
    method: 'GET',
    scheme: 'http',
    authority: 'shop',
    path,
    query: '',
    headers: new HeaderList(),
    port: 80,
    sourceNamespace: undefined,
    sourceLabels: [],
    ...more,
  } as unknown as RouteFacts;
  return new RouteIndex(routes).find(facts)?.route.name;
}

const unsure = (name: string, path: string): HttpRoute =>
  route(name, { matches: under(path), unsure: true });

test('what an unsure route may have meant is left to the routes of other objects', () => {
  const routes = [
    unsure('VirtualService/a/one/bad', '/'),
    route('VirtualService/a/one/later', { matches: under('/later') }),
    route('VirtualService/a/one-two', { matches: under('/two') }),
  ];
  expect(found(routes, '/two')).toBe('VirtualService/a/one-two');
  expect(found(routes, '/later')).toBe('VirtualService/a/one/bad');
  expect(found(routes, '/elsewhere')).toBe('VirtualService/a/one/bad');
});

test('a route that stands there by default is no way past an unsure one', () => {
  const first = unsure('HTTPRoute/a/one/0', '/');
  expect(found([first, route('no-route/a')], '/x')).toBe('HTTPRoute/a/one/0');
  expect(found([first, route('Service/a/shop')], '/x')).toBe('HTTPRoute/a/one/0');
  expect(found([first, route('default')], '/x')).toBe('HTTPRoute/a/one/0');
});

test('the routes of delegates are those of their root', () => {
  const inner = { object: 'VirtualService/a/root' };
  const routes = [
    { ...unsure('VirtualService/a/leaf/bad', '/'), ...inner },
    route('VirtualService/a/root/rest'),
    route('VirtualService/a/leaf', inner),
  ];
  expect(found(routes, '/x')).toBe('VirtualService/a/leaf/bad');
});

test('two objects with unsure routes close what neither can be told from the other', () => {
  const routes = [
    unsure('VirtualService/a/one', '/'),
    unsure('VirtualService/a/two', '/two'),
    route('VirtualService/a/two/rest'),
    route('VirtualService/a/three', { matches: under('/two/three') }),
  ];
  expect(found(routes, '/one')).toBe('VirtualService/a/two/rest');
  expect(found(routes, '/two/three')).toBe('VirtualService/a/three');
  expect(found(routes, '/two')).toBe('VirtualService/a/one');
});

describe('what is no field any more once a head is read can be asked for as one', () => {
  const exact = (value: string) => ({ kind: 'exact', value }) as const;
  const asks = (name: string, value: string): string | undefined =>
    found(
      [
        route('with', { matches: [any({ headers: [{ name, match: exact(value) }] })] }),
        route('else'),
      ],
      '/a',
      { query: 'b=c', upgrade: 'websocket' },
    );

  test.each([
    ['host', 'shop'],
    [':authority', 'shop'],
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/a?b=c'],
    ['upgrade', 'websocket'],
    ['connection', 'upgrade'],
  ])('%s: %s', (name, value) => {
    expect(asks(name, value)).toBe('with');
    expect(asks(name, 'other')).toBe('else');
  });

  test('withoutHeaders.host keeps out who asks for it', () => {
    const without = [{ name: 'host', match: exact('shop') }];
    const routes = [route('without', { matches: [any({ withoutHeaders: without })] })];
    expect(found(routes, '/a')).toBeUndefined();
    expect(found(routes, '/a', { authority: 'cart' })).toBe('without');
  });

  test('nobody who wants to change over has none of it', () => {
    const present = { kind: 'present' } as const;
    const routes = [
      route('with', { matches: [any({ headers: [{ name: 'upgrade', match: present }] })] }),
    ];
    expect(found(routes, '/a')).toBeUndefined();
  });
});
