import type { HttpAction, HttpMatch, HttpRoute, Port, Service } from '@ambit/api';
import { decodeRouteTable, decodeWith, defaultRetry, noChanges } from '@ambit/api';
import { describe, expect, test } from '@jest/globals';

import type { Metadata } from '../kube/decode/fields.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import { schemaProblems } from '../resources/crd.ts';
import {
  grpcRouteResource,
  httpRouteResource,
  tcpRouteResource,
  tlsRouteResource,
} from '../resources/gateway-api.ts';
import { parseGatewayDuration } from './gateway-retry.ts';
import type {
  AnyGatewayRoute,
  CompiledGatewayRoute,
  GatewayRouteKind,
  RouteWorld,
} from './gateway-route.ts';
import { mergeGatewayRoutes } from './gateway-merge.ts';
import { compileGatewayRoute } from './gateway-route.ts';
import { serviceHostname } from './service.ts';

const clusterDomain = 'cluster.local';

function service(namespace: string, name: string, ports: Record<string, number>): Service {
  return {
    name,
    namespace,
    hostname: serviceHostname({ name, namespace }, clusterDomain)!,
    vips: [],
    ipFamilies: ['IPv4'],
    ports: Object.entries(ports).map(([portName, port]) => ({
      name: portName,
      port: port as Port,
      appProtocol: '',
    })),
    loadBalancing: { mode: 'any' },
    publishNotReady: false,
    withoutWaypoint: 'refuse',
  };
}

const web = service('shop', 'web', { http: 80, admin: 8080 });
const services = [web, service('shop', 'v2', { http: 80 }), service('other', 'far', { http: 80 })];

const world: RouteWorld = {
  clusterDomain,
  waypoint: (_namespace, name) =>
    name === 'waypoint'
      ? {
          listeners: ['mesh'],
          allows: (from) => from === 'shop',
          services: () => services,
          isDeployed: () => true,
        }
      : undefined,
  service: (namespace, name) =>
    services.find((one) => one.namespace === namespace && one.name === name),
  granted: () => false,
  regexProblem: (pattern) => (pattern.includes('(?!') ? 'no look-ahead' : undefined),
};

const definitions: Record<GatewayRouteKind, ResourceDefinition> = {
  HTTPRoute: httpRouteResource,
  GRPCRoute: grpcRouteResource,
  TCPRoute: tcpRouteResource,
  TLSRoute: tlsRouteResource,
};

interface Options {
  readonly kind?: GatewayRouteKind;
  readonly name?: string;
  readonly namespace?: string;
  readonly created?: string;
  readonly world?: Partial<RouteWorld>;
}

const parent = { group: '', kind: 'Service', name: 'web', namespace: 'shop' };

function record(spec: object, options: Options = {}): AnyGatewayRoute {
  const kind = options.kind ?? 'HTTPRoute';
  const meta = decodeMetadata({
    metadata: {
      name: options.name ?? 'r',
      namespace: options.namespace ?? 'shop',
      creationTimestamp: options.created,
    },
  })!;
  const full = { parentRefs: [parent], ...spec };
  expect(schemaProblems(definitions[kind], full)).toEqual([]);
  return { kind, meta, spec: full } as AnyGatewayRoute;
}

function compile(spec: object, options: Options = {}): CompiledGatewayRoute {
  return compileGatewayRoute(record(spec, options), { ...world, ...options.world });
}

const ref = { name: 'web', port: 80 };
const toWeb = {
  kind: 'service',
  service: 'shop/web.shop.svc.cluster.local',
  port: 80,
};

function route(rule: object, options: Options = {}): HttpRoute {
  const { http } = compile({ rules: [{ backendRefs: [ref], ...rule }] }, options);
  expect(http).toHaveLength(1);
  return http[0]!.route;
}

function missing(action: HttpAction): string | undefined {
  if (action.kind !== 'forward') return undefined;
  const target = action.targets[0]?.target;
  return target?.kind === 'missing' ? target.why : undefined;
}

describe('how requests are matched', () => {
  const any = {
    sourceLabels: [],
    ignorePathCase: false,
    headers: [],
    withoutHeaders: [],
    query: [],
  };
  const root = { kind: 'path-prefix', value: '/' };
  test.each<[string, object | undefined, Partial<HttpMatch>]>([
    ['no matches: every path', undefined, { path: root } as Partial<HttpMatch>],
    ['a match without a path', {}, { path: root } as Partial<HttpMatch>],
    ['a prefix', { path: { value: '/a/' } }, { path: { kind: 'path-prefix', value: '/a/' } }],
    [
      'an exact path that requests have in another form',
      { path: { type: 'Exact', value: '/caf%c3%a9/%7Eu' } },
      { path: { kind: 'exact', value: '/caf%C3%A9/~u' } },
    ],
    [
      'a prefix that requests have in another form',
      { path: { value: '/a%2fb' } },
      { path: { kind: 'path-prefix', value: '/a/b' } },
    ],
    [
      'an exact path',
      { path: { type: 'Exact', value: '/a' } },
      { path: { kind: 'exact', value: '/a' } },
    ],
    [
      'an expression',
      { path: { type: 'RegularExpression', value: '/a+' } },
      { path: { kind: 'regex', value: '/a+' } },
    ],
    [
      'a method',
      { method: 'GET' },
      { path: root, method: { kind: 'exact', value: 'GET' } } as Partial<HttpMatch>,
    ],
    [
      'headers: lower case, the first of a name',
      {
        headers: [
          { name: 'X-A', value: '1' },
          { name: 'x-a', value: '2' },
          { type: 'RegularExpression', name: 'b', value: 'c.*' },
        ],
      },
      {
        path: root,
        headers: [
          { name: 'x-a', match: { kind: 'exact', value: '1' } },
          { name: 'b', match: { kind: 'regex', value: 'c.*' } },
        ],
      } as Partial<HttpMatch>,
    ],
    [
      'the host as the authority',
      { headers: [{ name: 'Host', value: 'Web.Shop' }] },
      { path: root, authority: { kind: 'exact', value: 'web.shop' } } as Partial<HttpMatch>,
    ],
    [
      'query parameters as written',
      { queryParams: [{ name: 'Q', value: '1' }] },
      {
        path: root,
        query: [{ name: 'Q', match: { kind: 'exact', value: '1' } }],
      } as Partial<HttpMatch>,
    ],
  ])('%s', (_name, match, expected) => {
    const rule = match === undefined ? {} : { matches: [match] };
    expect(route(rule).matches).toEqual([{ ...any, ...expected }]);
  });

  test.each<[string, object | undefined, object]>([
    ['no method', undefined, root],
    ['both', { service: 'a.B', method: 'C' }, { kind: 'exact', value: '/a.B/C' }],
    ['a service', { service: 'a.B' }, { kind: 'path-prefix', value: '/a.B' }],
    ['a method', { method: 'C' }, { kind: 'regex', value: '/[^/]+/C' }],
    [
      'expressions',
      { type: 'RegularExpression', service: 'a|b', method: 'C.*' },
      { kind: 'regex', value: '/(?:a|b)/(?:C.*)' },
    ],
    [
      'an expression for the method',
      { type: 'RegularExpression', method: 'C' },
      { kind: 'regex', value: '/[^/]+/(?:C)' },
    ],
  ])('gRPC: %s', (_name, method, path) => {
    const match = { ...(method && { method }), headers: [{ name: 'A', value: 'b' }] };
    expect(route({ matches: [match] }, { kind: 'GRPCRoute' }).matches).toEqual([
      { ...any, path, headers: [{ name: 'a', match: { kind: 'exact', value: 'b' } }] },
    ]);
  });

  test.each<[string, object, string, Options]>([
    ['a bad path', { path: { type: 'RegularExpression', value: '(?!a)' } }, 'path.value', {}],
    [
      'a bad header',
      { headers: [{ type: 'RegularExpression', name: 'a', value: '(?!a)' }] },
      'headers[0].value',
      {},
    ],
    [
      'a bad parameter',
      { queryParams: [{ type: 'RegularExpression', name: 'a', value: '(?!a)' }] },
      'queryParams[0].value',
      {},
    ],
    ['a relative path', { path: { type: 'Exact', value: 'a' } }, 'path.value', {}],
    ['a path that no request has', { path: { value: '/a%00' } }, 'path.value', {}],
    ['an empty segment', { path: { value: '/a//b' } }, 'path.value', {}],
    [
      'a slash in a gRPC service',
      { method: { service: 'a/b' } },
      'method.service',
      { kind: 'GRPCRoute' },
    ],
    [
      'a bad gRPC method',
      { method: { type: 'RegularExpression', method: '(?!a)' } },
      'method.method',
      { kind: 'GRPCRoute' },
    ],
  ])('%s is refused, and what it may have meant is closed', (_name, match, field, options) => {
    const compiled = compile({ rules: [{ matches: [match, {}], backendRefs: [ref] }] }, options);
    const [bad, good] = compiled.http;
    expect(missing(bad!.route.action)).toBe('a match that makes no sense');
    expect(missing(good!.route.action)).toBeUndefined();
    expect([bad!.route.unsure, good!.route.unsure]).toEqual([true, undefined]);
    // Of two that hold for the same requests the good one comes first.
    expect(bad!.order.precedence.at(-1)).toBeLessThan(good!.order.precedence.at(-1)!);
    expect(compiled.problems.map((one) => one.field)).toEqual([
      `spec.rules[0].matches[0].${field}`,
    ]);
    expect(compiled.problems[0]?.object).toBe(`${options.kind ?? 'HTTPRoute'} shop/r`);
    expect(compiled.parents[0]?.accepted).toMatchObject({
      status: false,
      reason: 'UnsupportedValue',
    });
  });

  test('every match is a route of its own, named after its rule', () => {
    const rules = [
      { name: 'first', matches: [{ path: { value: '/a' } }, { path: { value: '/b' } }] },
      { matches: [{}] },
    ];
    const { http, name } = compile({ rules });
    expect(name).toBe('HTTPRoute/shop/r');
    expect(http.map((one) => [one.route.name, one.order.rule, one.order.match])).toEqual([
      ['HTTPRoute/shop/r/first', 0, 0],
      ['HTTPRoute/shop/r/first', 0, 1],
      ['HTTPRoute/shop/r/1', 1, 0],
    ]);
  });
});

describe('filters', () => {
  const prefix = [{ path: { value: '/a/' } }];
  test('change headers', () => {
    const requestHeaderModifier = {
      set: [
        { name: 'X-A', value: '1' },
        { name: 'x-a', value: '2' },
      ],
      add: [{ name: 'B', value: '3' }],
      remove: ['C'],
    };
    const made = route({
      filters: [
        { type: 'RequestHeaderModifier', requestHeaderModifier },
        { type: 'ResponseHeaderModifier', responseHeaderModifier: { remove: ['Server'] } },
      ],
    });
    expect(made.request).toEqual({ remove: ['c'], set: [['x-a', '1']], add: [['b', '3']] });
    expect(made.response).toEqual({ remove: ['server'], set: [], add: [] });
  });

  test('change headers for one backend', () => {
    const filters = [{ type: 'RequestHeaderModifier', requestHeaderModifier: { remove: ['a'] } }];
    expect(route({ backendRefs: [{ ...ref, filters }] }).action).toEqual({
      kind: 'forward',
      targets: [
        {
          weight: 1,
          target: toWeb,
          request: { remove: ['a'], set: [], add: [] },
          response: noChanges,
        },
      ],
      rewrite: {},
    });
  });

  test.each<[string, object, number]>([
    ['all', {}, 100],
    ['a percentage', { percent: 0 }, 0],
    ['a fraction', { fraction: { numerator: 1, denominator: 8 } }, 12.5],
    ['a fraction of 100', { fraction: { numerator: 3 } }, 3],
  ])('mirror %s', (_name, share, percentage) => {
    const requestMirror = { backendRef: ref, ...share };
    expect(route({ filters: [{ type: 'RequestMirror', requestMirror }] }).mirrors).toEqual([
      { target: toWeb, percentage },
    ]);
  });

  test('mirror nothing to what is not there, and tell so', () => {
    const requestMirror = { backendRef: { name: 'none', port: 80 } };
    const { http, parents } = compile({
      rules: [{ backendRefs: [ref], filters: [{ type: 'RequestMirror', requestMirror }] }],
    });
    expect(http[0]?.route.mirrors).toEqual([]);
    expect(missing(http[0]!.route.action)).toBeUndefined();
    expect(parents[0]).toMatchObject({
      accepted: { status: true },
      resolvedRefs: { status: false, reason: 'BackendNotFound' },
    });
  });

  test.each<[string, object, object]>([
    ['the default', {}, { derivePort: 'from-request', status: 302 }],
    [
      'scheme and host',
      { scheme: 'https', hostname: 'a.b', statusCode: 301 },
      { scheme: 'https', authority: 'a.b', derivePort: 'from-protocol', status: 301 },
    ],
    ['a port', { port: 8443 }, { port: 8443, status: 302 }],
    [
      'a full path',
      { path: { type: 'ReplaceFullPath', replaceFullPath: '/x' } },
      { derivePort: 'from-request', path: { kind: 'full', value: '/x' }, status: 302 },
    ],
    [
      'a prefix',
      { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/x' } },
      {
        derivePort: 'from-request',
        path: { kind: 'prefix', matched: '/a', value: '/x' },
        status: 302,
      },
    ],
  ])('redirect: %s', (_name, requestRedirect, redirect) => {
    const filters = [{ type: 'RequestRedirect', requestRedirect }];
    const made = route({ matches: prefix, filters, backendRefs: [] });
    expect(made.action).toEqual({ kind: 'redirect', redirect });
  });

  test.each<[string, object, object]>([
    ['the host', { hostname: 'a.b' }, { authority: 'a.b' }],
    [
      'the path',
      { path: { type: 'ReplaceFullPath', replaceFullPath: '/x' } },
      { path: { kind: 'full', value: '/x' } },
    ],
    [
      'the prefix',
      { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '' } },
      { path: { kind: 'prefix', matched: '/a', value: '' } },
    ],
  ])('rewrite %s', (_name, urlRewrite, rewrite) => {
    const made = route({ matches: prefix, filters: [{ type: 'URLRewrite', urlRewrite }] });
    expect(made.action).toMatchObject({ kind: 'forward', rewrite });
  });

  test.each<[string, object, object]>([
    [
      'the defaults',
      {},
      {
        allowOrigins: [],
        allowMethods: [],
        allowHeaders: [],
        exposeHeaders: [],
        maxAgeSeconds: 5,
        allowCredentials: false,
        forwardUnmatchedPreflights: false,
      },
    ],
    [
      'origins',
      {
        allowOrigins: ['https://A.b:443', 'http://a.b:8080', 'https://*.a.b', 'http://*'],
      },
      {
        allowOrigins: [
          { kind: 'exact', value: 'https://a.b' },
          { kind: 'exact', value: 'http://a.b:8080' },
          { kind: 'regex', value: String.raw`https://[^/:]+\.a\.b` },
          { kind: 'regex', value: 'http://[^/:]+' },
        ],
      },
    ],
    [
      'everything',
      { allowOrigins: ['*'], allowMethods: ['*'], maxAge: 60 },
      { allowOrigins: [{ kind: 'exact', value: '*' }], allowMethods: ['*'], maxAgeSeconds: 60 },
    ],
    [
      'every method with credentials, by name',
      { allowMethods: ['*'], allowCredentials: true },
      { allowMethods: expect.arrayContaining(['GET', 'PATCH']), allowCredentials: true },
    ],
  ])('CORS: %s', (_name, cors, expected) => {
    expect(route({ filters: [{ type: 'CORS', cors }] }).cors).toMatchObject(expected);
  });

  const extensionRef = { group: 'g', kind: 'K', name: 'n' };
  const replacePrefix = {
    type: 'URLRewrite',
    urlRewrite: { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/x' } },
  };
  test.each<[string, object, string, string]>([
    [
      'ExternalAuth',
      { filters: [{ type: 'ExternalAuth', externalAuth: { protocol: 'GRPC', backendRef: ref } }] },
      'filters[0].externalAuth',
      'UnsupportedValue',
    ],
    [
      'ExtensionRef',
      { filters: [{ type: 'ExtensionRef', extensionRef }] },
      'filters[0].extensionRef',
      'UnsupportedValue',
    ],
    ['sessionPersistence', { sessionPersistence: {} }, 'sessionPersistence', 'UnsupportedValue'],
    [
      'a filter without its field',
      { filters: [{ type: 'CORS' }] },
      'filters[0].cors',
      'UnsupportedValue',
    ],
    [
      'a field of another type',
      { filters: [{ type: 'CORS', cors: {}, extensionRef }] },
      'filters[0].extensionRef',
      'UnsupportedValue',
    ],
    [
      'the same filter twice',
      {
        filters: [
          { type: 'CORS', cors: {} },
          { type: 'CORS', cors: {} },
        ],
      },
      'filters[1].type',
      'IncompatibleFilters',
    ],
    [
      'redirect and rewrite',
      {
        filters: [
          { type: 'RequestRedirect', requestRedirect: {} },
          { type: 'URLRewrite', urlRewrite: {} },
        ],
      },
      'filters',
      'IncompatibleFilters',
    ],
    [
      'a prefix that is not matched',
      { matches: [{ path: { type: 'Exact', value: '/a' } }], filters: [replacePrefix] },
      'filters[0].urlRewrite.path.replacePrefixMatch',
      'UnsupportedValue',
    ],
    [
      'a replacement that is not there',
      { filters: [{ type: 'URLRewrite', urlRewrite: { path: { type: 'ReplaceFullPath' } } }] },
      'filters[0].urlRewrite.path.replaceFullPath',
      'UnsupportedValue',
    ],
    [
      'a bad origin',
      { filters: [{ type: 'CORS', cors: { allowOrigins: ['ftp://a'] } }] },
      'filters[0].cors.allowOrigins[0]',
      'UnsupportedValue',
    ],
    [
      'a share above 1',
      {
        filters: [
          {
            type: 'RequestMirror',
            requestMirror: { backendRef: ref, fraction: { numerator: 3, denominator: 2 } },
          },
        ],
      },
      'filters[0].requestMirror.fraction.numerator',
      'UnsupportedValue',
    ],
    [
      'a redirect of one backend',
      { backendRefs: [{ ...ref, filters: [{ type: 'RequestRedirect', requestRedirect: {} }] }] },
      'backendRefs[0].filters[0].type',
      'UnsupportedValue',
    ],
    [
      'tries longer than the whole',
      { timeouts: { request: '1s', backendRequest: '2s' } },
      'timeouts.backendRequest',
      'UnsupportedValue',
    ],
  ])('%s: refused, and the rule answers 500', (_name, rule, field, reason) => {
    const { http, parents } = compile({ rules: [{ backendRefs: [ref], ...rule }] });
    expect(http.map((one) => missing(one.route.action))).toEqual([
      expect.stringContaining('not supported'),
    ]);
    expect(parents[0]?.accepted).toMatchObject({ status: false, reason });
    expect(parents[0]?.accepted.message).toContain(`spec.rules[0].${field}: `);
    expect(parents[0]?.service).toBe(toWeb.service);
  });

  test('a refused rule leaves the others as they are', () => {
    const { http } = compile({
      rules: [{ sessionPersistence: {}, backendRefs: [ref] }, { backendRefs: [ref] }],
    });
    expect(http.map((one) => missing(one.route.action) === undefined)).toEqual([false, true]);
  });

  test.each<[string, object, string]>([
    [
      'a star for headers with credentials',
      {
        filters: [{ type: 'CORS', cors: { allowHeaders: ['*'], allowCredentials: true } }],
      },
      'spec.rules[0].filters[0].cors.allowHeaders',
    ],
    [
      'backends beside a redirect',
      { filters: [{ type: 'RequestRedirect', requestRedirect: {} }] },
      'spec.rules[0].backendRefs',
    ],
  ])('%s: told, and accepted', (_name, rule, field) => {
    const { parents, problems } = compile({ rules: [{ backendRefs: [ref], ...rule }] });
    expect(problems.map((one) => one.field)).toEqual([field]);
    expect(parents[0]?.accepted.status).toBe(true);
  });
});

describe('timeouts and retries', () => {
  const policy = {
    attempts: 1,
    on: ['connect-failure', 'refused-stream', 'reset-before-request'],
    statuses: [],
    backoffMs: 25,
    maxBackoffMs: 250,
    remoteLocalities: false,
    ignorePreviousHosts: true,
    evenIfNotIdempotent: false,
  };
  test.each<[string, object, Pick<HttpRoute, 'timeoutMs'> & { retry?: object }]>([
    ['nothing', {}, {}],
    ['a request', { timeouts: { request: '1m30s' } }, { timeoutMs: 90_000 }],
    ['no timeout', { timeouts: { request: '0s', backendRequest: '0s' } }, {}],
    [
      'one try',
      { timeouts: { request: '0s', backendRequest: '250ms' } },
      { retry: { ...defaultRetry, perTryTimeoutMs: 250 } },
    ],
    ['the defaults of retries', { retry: {} }, { retry: policy }],
    [
      'retries',
      {
        timeouts: { backendRequest: '1s' },
        retry: { codes: [503, 503], attempts: 3, backoff: '1s' },
      },
      {
        retry: {
          ...policy,
          attempts: 3,
          perTryTimeoutMs: 1000,
          on: ['retriable-status-codes', ...policy.on],
          statuses: [503],
          backoffMs: 1000,
          maxBackoffMs: 10_000,
          evenIfNotIdempotent: true,
        },
      },
    ],
  ])('%s', (_name, rule, expected) => {
    const { timeoutMs, retry } = route(rule);
    expect({ ...(timeoutMs && { timeoutMs }), ...(retry && { retry }) }).toEqual(expected);
  });

  test.each([
    ['1h2m3s4ms', 3_723_004],
    ['0s', 0],
    ['', undefined],
    ['-1s', undefined],
    ['1.5s', undefined],
    ['100000s', undefined],
    ['1d', undefined],
  ])('%s', (text, ms) => {
    expect(parseGatewayDuration(text)).toBe(ms);
  });
});

describe('backends', () => {
  const far = { name: 'far', namespace: 'other', port: 80 };
  test.each<[string, object[] | undefined, string, string]>([
    [
      'no Service',
      [{ name: 'none', port: 80 }],
      'BackendNotFound',
      'there is no Service shop/none',
    ],
    ['no port', [{ name: 'web' }], 'BackendNotFound', 'must be set'],
    ['another port', [{ name: 'web', port: 81 }], 'BackendNotFound', 'no TCP port 81'],
    ['another kind', [{ kind: 'Pod', name: 'web', port: 80 }], 'InvalidKind', 'Pod is no kind'],
    [
      'another group',
      [{ group: 'g.io', kind: 'Service', name: 'web', port: 80 }],
      'InvalidKind',
      'Service.g.io is no kind',
    ],
    ['no grant', [far], 'RefNotPermitted', 'create a ReferenceGrant in namespace other'],
  ])('%s', (_name, backendRefs, reason, why) => {
    const { http, parents } = compile({ rules: [{ backendRefs }] });
    expect(missing(http[0]!.route.action)).toContain(why);
    expect(parents[0]).toMatchObject({
      accepted: { status: true, reason: 'Accepted' },
      resolvedRefs: { status: false, reason },
    });
    expect(parents[0]?.resolvedRefs.message).toContain('spec.rules[0].backendRefs[0].');
  });

  test("a client's route needs no grant for the Service that it is for, and for that one only", () => {
    const parent = { group: '', kind: 'Service', name: 'far', namespace: 'other' };
    const rules = [{ backendRefs: [far] }];
    const [own] = compile({ parentRefs: [parent, { ...parent, port: 80 }], rules }).http;
    expect(missing(own!.route.action)).toBeUndefined();
    const web = { group: '', kind: 'Service', name: 'web' };
    const [mixed] = compile({ parentRefs: [parent, web], rules }).http;
    expect(missing(mixed!.route.action)).toContain('create a ReferenceGrant');
    const near = { ...parent, name: 'near' };
    const [other] = compile({ parentRefs: [near], rules }).http;
    expect(missing(other!.route.action)).toContain('create a ReferenceGrant');
  });

  test('a grant is asked for with both ends', () => {
    const asked: unknown[] = [];
    const granted: RouteWorld['granted'] = (...ends) => asked.push(ends) > 0;
    const { http, parents } = compile({ rules: [{ backendRefs: [far] }] }, { world: { granted } });
    expect(missing(http[0]!.route.action)).toBeUndefined();
    expect(parents[0]?.resolvedRefs.status).toBe(true);
    expect(asked).toEqual([
      [
        { group: 'gateway.networking.k8s.io', kind: 'HTTPRoute', namespace: 'shop' },
        { group: '', kind: 'Service', namespace: 'other', name: 'far' },
      ],
    ]);
  });

  test.each([
    ['HTTPRoute', 'requests are answered 500'],
    ['GRPCRoute', 'requests are answered 500'],
    ['TCPRoute', 'connections are closed'],
  ] as const)('whose weights sum to 0 are told: %s', (kind, consequence) => {
    const rule = (...weights: number[]) => ({
      rules: [{ backendRefs: weights.map((weight) => ({ ...ref, weight })) }],
    });
    const told = `spec.rules[0].backendRefs: the weights sum to 0: ${consequence}; give one of them a weight`;
    const [outcome] = compile(rule(0, 0), { kind }).parents;
    expect(outcome?.accepted).toEqual({
      status: true,
      reason: 'Accepted',
      message: `the route holds for this parent; ${told}`,
    });
    expect(compile(rule(0, 1), { kind }).problems).toEqual([]);
  });

  test('keep their weights, those that are missing too', () => {
    const backendRefs = [
      ref,
      { name: 'v2', port: 80, weight: 0 },
      { name: 'x', port: 80, weight: 9 },
    ];
    const { action } = route({ backendRefs });
    expect(
      action.kind === 'forward' && action.targets.map((one) => [one.weight, one.target.kind]),
    ).toEqual([
      [1, 'service'],
      [0, 'service'],
      [9, 'missing'],
    ]);
  });

  test.each(['HTTPRoute', 'GRPCRoute'] as const)('none of them answer 500: %s', (kind) => {
    const { http, parents } = compile({ rules: [{}] }, { kind });
    expect(missing(http[0]!.route.action)).toBe('the rule has no backendRefs');
    expect(parents[0]?.resolvedRefs.status).toBe(true);
  });

  test('of connections', () => {
    const rules = [{ backendRefs: [ref] }, {}];
    const { tcp, problems } = compile({ rules }, { kind: 'TCPRoute' });
    expect(tcp.map(({ name, targets }) => [name, targets[0]?.target.kind])).toEqual([
      ['TCPRoute/shop/r/0', 'service'],
      ['TCPRoute/shop/r/1', 'missing'],
    ]);
    expect(problems.map((one) => one.field)).toEqual(['spec.rules[1]']);
    const { tls } = compile(
      { hostnames: ['*.a.b', 'c.d'], rules: [{ name: 'x', backendRefs: [ref] }] },
      { kind: 'TLSRoute' },
    );
    expect(tls.map(({ name, matches }) => [name, matches[0]?.sniHosts])).toEqual([
      ['TLSRoute/shop/r/x', ['*.a.b']],
      ['TLSRoute/shop/r/x', ['c.d']],
    ]);
  });
});

describe('parents', () => {
  const rules = [{ backendRefs: [ref] }];
  test.each<[string, object, object]>([
    ['a Service', {}, { service: toWeb.service }],
    ['a port by name', { sectionName: 'admin' }, { service: toWeb.service, port: 8080 }],
    ['a port by number', { port: 80 }, { service: toWeb.service, port: 80 }],
    ['a port by both', { sectionName: 'http', port: 80 }, { service: toWeb.service, port: 80 }],
  ])('%s', (_name, more, expected) => {
    const { parents } = compile({ parentRefs: [{ ...parent, ...more }], rules });
    const ok = { status: true, message: expect.any(String) };
    expect(parents).toEqual([
      {
        parent: { ...parent, ...more },
        accepted: { ...ok, reason: 'Accepted' },
        resolvedRefs: { ...ok, reason: 'ResolvedRefs' },
        ...expected,
      },
    ]);
  });

  test.each<[string, object, string]>([
    ['no such Service', { name: 'none' }, 'NoMatchingParent'],
    ['no such port', { port: 81 }, 'NoMatchingParent'],
    ['no such name', { sectionName: 'x' }, 'NoMatchingParent'],
    ['a port of another name', { sectionName: 'http', port: 8080 }, 'NoMatchingParent'],
    [
      'a ServiceEntry that is not there',
      { group: 'networking.istio.io', kind: 'ServiceEntry' },
      'NoMatchingParent',
    ],
  ])('%s', (_name, more, reason) => {
    const { parents } = compile({ parentRefs: [{ ...parent, ...more }], rules });
    expect(parents).toHaveLength(1);
    expect(parents[0]).toMatchObject({ accepted: { status: false, reason } });
    expect(parents[0]?.service).toBeUndefined();
  });

  test.each<[string, object[], string[]]>([
    ['a Gateway', [{ name: 'gw' }], []],
    ['a Service without a group', [{ kind: 'Service', name: 'web' }], ['spec.parentRefs[0].group']],
    ['none', [], []],
  ])('%s is left alone', (_name, parentRefs, fields) => {
    const compiled = compile({ parentRefs, rules: [{ sessionPersistence: {} }] });
    expect(compiled).toMatchObject({ parents: [], http: [] });
    expect(compiled.problems.map((one) => one.field)).toEqual(fields);
  });

  describe('the Gateway of a waypoint', () => {
    const byGateway = (more: object = {}, options: Options = {}) =>
      compile({ parentRefs: [{ name: 'waypoint', namespace: 'shop' }], rules, ...more }, options);

    test('means all of its services, without a scope', () => {
      const { parents, problems } = byGateway();
      expect(parents).toEqual([
        expect.objectContaining({
          accepted: expect.objectContaining({ status: true }),
          byWaypoint: true,
          service: toWeb.service,
          otherServices: ['shop/v2.shop.svc.cluster.local', 'other/far.other.svc.cluster.local'],
        }),
      ]);
      expect(parents[0]).not.toHaveProperty('consumerNamespace');
      expect(problems).toEqual([]);
    });

    test.each<[string, string[], string[]]>([
      ['a name', ['web.shop.svc.cluster.local'], ['web']],
      ['a wildcard', ['*.shop.svc.cluster.local'], ['web', 'v2']],
      ['another', ['shop.example.com'], []],
    ])('means those of its services that have the hostname: %s', (_name, hostnames, names) => {
      const { parents, problems } = byGateway({ hostnames });
      const told = parents.map(({ service: first, otherServices: more = [], accepted }) => [
        accepted.status,
        accepted.message.includes(names.length === 0 ? 'no service' : 'holds for'),
        [first, ...more].flatMap((one) => one?.split(/[/.]/)[1] ?? []),
      ]);
      expect(told).toEqual([[true, true, names]]);
      const idle = 'no service that is bound to this waypoint has one of the hostnames';
      expect(problems.map(({ message }) => message)).toEqual(names.length === 0 ? [idle] : []);
    });

    test.each<[string, object, Options, string]>([
      ['of a namespace that may not', {}, { namespace: 'other' }, 'NotAllowedByListeners'],
      [
        'TCPRoute',
        { rules: [{ backendRefs: [ref] }] },
        { kind: 'TCPRoute' },
        'NotAllowedByListeners',
      ],
      [
        'of no listener',
        { parentRefs: [{ name: 'waypoint', sectionName: 'http' }] },
        {},
        'NoMatchingParent',
      ],
      ['of another port', { parentRefs: [{ name: 'waypoint', port: 80 }] }, {}, 'NoMatchingParent'],
    ])('refuses one %s', (_name, more, options, reason) => {
      const { parents } = byGateway(more, options);
      expect(parents).toMatchObject([{ accepted: { status: false, reason } }]);
      expect(parents[0]?.service).toBeUndefined();
    });
  });

  test('of another namespace make a consumer route', () => {
    const { parents } = compile({ rules: [] }, { namespace: 'client' });
    expect(parents[0]).toMatchObject({ service: toWeb.service, consumerNamespace: 'client' });
  });
});

describe('the table of a service', () => {
  type Made = readonly [spec: object, options?: Options];

  function merge(made: readonly Made[], of?: Service) {
    const attached = made.flatMap(([spec, options]) => {
      const one = record(spec, options);
      const compiled = compileGatewayRoute(one, world);
      const meta: Metadata = one.meta;
      return compiled.parents.map((outcome) => ({ compiled, meta, parent: outcome }));
    });
    return mergeGatewayRoutes(attached, of);
  }

  const rule = (name: string, match: object) => ({ name, matches: [match], backendRefs: [ref] });
  const last = (name: string): string => name.split('/').at(-1) ?? '';

  test('has matches in the order of the Gateway API', () => {
    const header = (name: string) => ({ name, value: '1' });
    const rules = [
      rule('any', {}),
      rule('regex', { path: { type: 'RegularExpression', value: '/a.*' } }),
      rule('query', { path: { value: '/a' }, queryParams: [header('a')] }),
      rule('queries', { path: { value: '/a' }, queryParams: [header('a'), header('b')] }),
      rule('header', { path: { value: '/a' }, headers: [header('a')] }),
      rule('headers', { path: { value: '/a' }, headers: [header('a'), header('b')] }),
      rule('method', { path: { value: '/a' }, method: 'GET' }),
      rule('short', { path: { value: '/a/' } }),
      rule('same', { path: { value: '/a' } }),
      rule('long', { path: { value: '/a/b' } }),
      rule('exact', { path: { type: 'Exact', value: '/a' } }),
    ];
    expect(merge([[{ rules }]]).http.map(({ name }) => last(name))).toEqual([
      ...['exact', 'long', 'method', 'headers', 'header', 'queries', 'query'],
      ...['short', 'same', 'regex', 'any'],
    ]);
  });

  test('has the oldest route first, then names, then positions', () => {
    const spec = { rules: [rule('a', {}), rule('b', {})] };
    const created = (year: number): string => `${year}-01-01T00:00:00Z`;
    const made: Made[] = [
      [spec, { name: 'young', created: created(2025) }],
      [spec, { name: 'b', created: created(2024) }],
      [spec, { name: 'a', created: created(2024) }],
      [spec, { name: 'old', created: created(2023) }],
    ];
    const names = ['old', 'a', 'b', 'young'].flatMap((name) => [`${name}/a`, `${name}/b`]);
    const expected = names.map((name) => `HTTPRoute/shop/${name}`);
    expect(merge(made).http.map(({ name }) => name)).toEqual(expected);
    expect(merge(made.toReversed()).http.map(({ name }) => name)).toEqual(expected);
  });

  test('orders gRPC by service and method, before HTTP', () => {
    const method = (name: string, one: object) => rule(name, { method: one });
    const made: Made[] = [
      [{ rules: [rule('http', { path: { type: 'Exact', value: '/x' } })] }, { name: 'h' }],
      [
        {
          rules: [
            rule('any', {}),
            method('method', { method: 'Get' }),
            method('service', { service: 'a.B' }),
            method('both', { service: 'a.B', method: 'Get' }),
          ],
        },
        { kind: 'GRPCRoute' },
      ],
    ];
    expect(merge(made).http.map(({ name }) => last(name))).toEqual([
      ...['both', 'service', 'method', 'any', 'http'],
    ]);
  });

  test('holds for the port of the parent', () => {
    const parentRefs = [{ ...parent, port: 80 }];
    const spec = { parentRefs, rules: [rule('a', {})] };
    expect(merge([[spec]]).http.map(({ matches }) => matches[0]?.port)).toEqual([80]);
    const { http } = merge([[spec]], web);
    expect(http.map(({ name, matches }) => [name, matches[0]?.port])).toEqual([
      ['HTTPRoute/shop/r/a', 80],
      ['Service/shop/web', 8080],
    ]);
    expect(http[1]?.action).toMatchObject({ targets: [{ target: { ...toWeb, port: 8080 } }] });
  });

  test('serves clients of a namespace by its own routes alone', () => {
    const consumed = { rules: [{ name: 'c', matches: [{ path: { value: '/c' } }] }] };
    const made: Made[] = [
      [{ rules: [rule('own', { path: { type: 'Exact', value: '/a' } })] }],
      [consumed, { namespace: 'client' }],
      [consumed, { namespace: 'aaa' }],
    ];
    const { http } = merge(made, web);
    expect(http.map(({ name, matches }) => [name, matches[0]?.sourceNamespace])).toEqual([
      ['HTTPRoute/aaa/r/c', 'aaa'],
      ['no-route/aaa', 'aaa'],
      ['HTTPRoute/client/r/c', 'client'],
      ['no-route/client', 'client'],
      ['HTTPRoute/shop/r/own', undefined],
    ]);
    expect(http[1]?.action).toMatchObject({ kind: 'respond', status: 404 });
  });

  test('leaves other clients to the service where there are consumer routes only', () => {
    const { http } = merge([[{ rules: [rule('c', {})] }, { namespace: 'client' }]], web);
    expect(http.map(({ name }) => name)).toEqual([
      'HTTPRoute/client/r/c',
      'no-route/client',
      'Service/shop/web',
      'Service/shop/web',
    ]);
  });

  test('is empty where nothing is attached', () => {
    const parentRefs = [{ ...parent, name: 'none' }];
    expect(merge([[{ parentRefs, rules: [rule('a', {})] }]], web)).toEqual({
      http: [],
      tcp: [],
      tls: [],
    });
  });

  test('has connections by port and client', () => {
    const rules = [{ backendRefs: [ref] }];
    const { tcp, tls, http } = merge(
      [
        [{ rules, parentRefs: [{ ...parent, port: 80 }] }, { kind: 'TCPRoute' }],
        [{ rules }, { kind: 'TCPRoute', namespace: 'client' }],
      ],
      web,
    );
    expect([tls, http]).toEqual([[], []]);
    expect(
      tcp.map(({ name, matches }) => [name, matches[0]?.port, matches[0]?.sourceNamespace]),
    ).toEqual([
      ['TCPRoute/client/r/0', undefined, 'client'],
      ['TCPRoute/shop/r/0', 80, undefined],
      ['Service/shop/web', 8080, undefined],
    ]);
  });

  test('has names in the order of how exact they are, and refuses the others', () => {
    const rules = [{ backendRefs: [ref] }];
    const parentRefs = [{ ...parent, port: 80 }];
    const made: Made[] = [
      [{ rules, parentRefs, hostnames: ['*.b', '*.a.b', 'x.a.b'] }, { kind: 'TLSRoute' }],
    ];
    const { tls } = merge(made, web);
    expect(
      tls.map(({ name, matches }) => [name, ...(matches[0]?.sniHosts ?? []), matches[0]?.port]),
    ).toEqual([
      ['TLSRoute/shop/r/0', 'x.a.b', 80],
      ['TLSRoute/shop/r/0', '*.a.b', 80],
      ['TLSRoute/shop/r/0', '*.b', 80],
      ['no-route/', 80],
      ['Service/shop/web', 8080],
    ]);
  });

  test('asks TCPRoutes for names on ports that TLSRoutes say nothing of', () => {
    const rules = [{ backendRefs: [ref] }];
    const at = (port: number) => [{ ...parent, port }];
    const { tls } = merge(
      [
        [{ rules, parentRefs: at(80), hostnames: ['a.b'] }, { kind: 'TLSRoute' }],
        [{ rules, parentRefs: at(8080) }, { kind: 'TCPRoute' }],
      ],
      web,
    );
    expect(tls.map(({ name }) => name)).toEqual([
      'TLSRoute/shop/r/0',
      'no-route/',
      'TCPRoute/shop/r/0',
    ]);
  });

  test('is one that proxies can read', () => {
    const filters = [
      {
        type: 'URLRewrite',
        urlRewrite: { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '' } },
      },
      { type: 'CORS', cors: { allowOrigins: ['https://*.a'] } },
      { type: 'RequestMirror', requestMirror: { backendRef: ref, percent: 5 } },
    ];
    const rules = [{ filters, backendRefs: [ref], timeouts: { backendRequest: '1s' }, retry: {} }];
    const connections = { rules: [{ backendRefs: [ref] }], hostnames: ['*.a.b'] };
    const made: Made[] = [
      [{ rules, parentRefs: [{ ...parent, port: 80 }] }],
      [{ rules: [{ backendRefs: [ref] }] }, { kind: 'GRPCRoute', namespace: 'client' }],
      [connections, { kind: 'TLSRoute' }],
      [{ rules: connections.rules }, { kind: 'TCPRoute' }],
    ];
    const table = { service: toWeb.service, ...merge(made, web) };
    const wire: unknown = JSON.parse(JSON.stringify(table));
    expect(decodeWith(decodeRouteTable, wire)).toEqual({ ok: true, value: table });
  });
});
