import { describe, expect, test } from '@jest/globals';
import type { Port } from '@ambit/api';

import { decoded } from '../../test/records.ts';
import type { VirtualServiceRecord } from '../kube/decode/configuration.ts';
import { decodeDestinationRule, decodeVirtualService } from '../kube/decode/configuration.ts';
import { compileDestinationRule, mergeDestinationRules } from './destination-rule.ts';
import { durationMs } from './duration.ts';
import { regexProblem } from './regex.ts';
import type { CompiledVirtualService } from './virtual-service.ts';
import { compileVirtualService } from './virtual-service.ts';

function record(spec: object, name = 'vs'): VirtualServiceRecord {
  return decoded(decodeVirtualService, { metadata: { name, namespace: 'shop' }, spec });
}

const ports: Readonly<Record<string, readonly number[]>> = {
  'shop/reviews': [8080],
  'shop/cart': [8080, 9090],
  'other/far': [80],
};

function compile(
  spec: object,
  delegates: Readonly<Record<string, object>> = {},
): CompiledVirtualService {
  return compileVirtualService(record(spec), {
    clusterDomain: 'cluster.local',
    rootNamespace: 'istio-system',
    ports: ({ namespace, name }) => ports[`${namespace}/${name}`] as readonly Port[] | undefined,
    hasSubset: (_service, name) => name === 'v1',
    delegate: (_namespace, name) => {
      const spec_ = delegates[name];
      return spec_ === undefined ? undefined : record(spec_, name);
    },
    regexProblem,
    insteadOf: () => undefined,
  });
}

const to = (host: string, more: object = {}): object => ({ destination: { host, ...more } });

describe('hosts', () => {
  test.each([
    ['a short name', 'reviews', ['shop/reviews.shop.svc.cluster.local']],
    ['with the namespace', 'far.other', ['other/far.other.svc.cluster.local']],
    ['in full', 'far.other.svc.cluster.local', ['other/far.other.svc.cluster.local']],
  ])('%s', (_name, host, services) => {
    expect(compile({ hosts: [host], http: [{ route: [to('reviews')] }] }).services).toEqual(
      services,
    );
  });

  test('wildcards are kept by what they end with', () => {
    const hosts = ['*', '*.Shop.svc.cluster.local', 'reviews'];
    expect(compile({ hosts, http: [{ route: [to('reviews')] }] })).toMatchObject({
      services: ['shop/reviews.shop.svc.cluster.local'],
      endings: ['', '.shop.svc.cluster.local'],
      problems: [],
    });
  });

  test.each(['nobody', 'a.*', 'example.com', 'reviews.shop.svc.elsewhere'])(
    '%s is told',
    (host) => {
      const { services, problems } = compile({ hosts: [host], http: [{ route: [to('reviews')] }] });
      expect(services).toEqual([]);
      expect(problems).toMatchObject([{ field: 'spec.hosts[0]' }]);
    },
  );

  test.each([
    ['short and in full is told', 'reviews.shop.svc.cluster.local', { admissible: true }],
    ['twice in one form is refused', 'reviews', {}],
  ])('one that is named %s', (_name, again, more) => {
    const { services, problems } = compile({
      hosts: ['reviews', again],
      http: [{ route: [to('reviews')] }],
    });
    expect(services).toEqual(['shop/reviews.shop.svc.cluster.local']);
    const object = 'VirtualService shop/vs';
    const message = `${again} is named twice; remove one`;
    expect(problems).toEqual([{ object, field: 'spec.hosts[1]', message, ...more }]);
  });

  test('for gateways alone it is none of the mesh', () => {
    const { http, problems } = compile({
      hosts: ['reviews'],
      gateways: ['g'],
      http: [{ route: [to('reviews')] }],
    });
    expect(http).toEqual([]);
    expect(problems).toMatchObject([{ field: 'spec.gateways' }]);
  });
});

test('a DestinationRule that breaks its schema sends nothing in plain text where it speaks of TLS', () => {
  const made = (trafficPolicy: object) => {
    const spec = { host: 'reviews', newer: 1, trafficPolicy };
    const object = { metadata: { name: 'd', namespace: 'shop' }, spec };
    return compileDestinationRule(decoded(decodeDestinationRule, object), 'cluster.local');
  };
  const { service, policy, problems } = made({ tls: { mode: 'SIMPLE' } });
  expect(service).toBe('shop/reviews.shop.svc.cluster.local');
  expect(policy.tls?.mode).toBe('broken');
  expect(problems.map(({ field }) => field)).toEqual(['spec.newer', 'spec']);
  expect(made({ connectionPool: {} }).service).toBeUndefined();
});

describe('one that breaks its schema', () => {
  test('refuses what goes to the hosts that can be read, and says so', () => {
    const { services, http, tcp, tls, problems } = compile({
      hosts: ['reviews', 7],
      http: [{ route: [to('reviews')], newer: {} }],
      tcp: 'odd',
    });
    expect(services).toEqual(['shop/reviews.shop.svc.cluster.local']);
    const missing = [
      expect.objectContaining({ target: expect.objectContaining({ kind: 'missing' }) as unknown }),
    ] as unknown;
    expect(http).toMatchObject([{ matches: [], action: { kind: 'forward', targets: missing } }]);
    expect(tcp).toMatchObject([{ targets: missing }]);
    expect(tls).toEqual([]);
    const fields = problems.map(({ field }) => field);
    expect(fields).toEqual(expect.arrayContaining(['spec.http[0].newer', 'spec.hosts[1]', 'spec']));
  });

  test('is for the mesh unless all of its gateways say otherwise', () => {
    const broken = { hosts: ['reviews'], http: 'odd' };
    expect(compile({ ...broken, gateways: ['edge'] }).services).toEqual([]);
    expect(compile({ ...broken, gateways: ['edge', 7] }).services).toHaveLength(1);
    expect(compile({ ...broken, gateways: ['edge', 'mesh'] }).services).toHaveLength(1);
    expect(compile({ ...broken, exportTo: ['.', 7] }).exportedTo).toEqual(['*']);
    expect(compile({ ...broken, exportTo: ['.'] }).exportedTo).toEqual(['shop']);
  });
});

describe('routes', () => {
  test('matches, weights, headers, rewrite, timeout, retries', () => {
    const { http, problems } = compile({
      hosts: ['reviews'],
      http: [
        {
          name: 'one',
          match: [
            {
              uri: { prefix: '/a' },
              method: { exact: 'GET' },
              headers: { 'X-User': { regex: 'a+' }, 'x-there': {} },
              queryParams: { q: { exact: '1' } },
              withoutHeaders: { 'x-not': { prefix: 'n' } },
              sourceNamespace: 'clients',
              port: 8080,
              ignoreUriCase: true,
            },
          ],
          route: [
            {
              ...to('reviews', { subset: 'v1' }),
              weight: 30,
              headers: { request: { set: { 'X-A': '1' } } },
            },
            { ...to('cart', { port: { number: 9090 } }), weight: 70 },
          ],
          rewrite: { uri: '/b', authority: 'inner' },
          timeout: '1.5s',
          retries: { attempts: 3, perTryTimeout: '250ms', retryOn: '5xx,503,connect-failure' },
        },
      ],
    });
    expect(problems).toEqual([]);
    expect(http).toMatchObject([
      {
        name: 'VirtualService/shop/vs/one',
        matches: [
          {
            path: { kind: 'prefix', value: '/a' },
            method: { kind: 'exact', value: 'GET' },
            headers: [
              { name: 'x-user', match: { kind: 'regex', value: 'a+' } },
              { name: 'x-there', match: { kind: 'present' } },
            ],
            query: [{ name: 'q', match: { kind: 'exact', value: '1' } }],
            withoutHeaders: [{ name: 'x-not', match: { kind: 'prefix', value: 'n' } }],
            sourceNamespace: 'clients',
            port: 8080,
            ignorePathCase: true,
          },
        ],
        action: {
          kind: 'forward',
          targets: [
            { weight: 30, target: { subset: 'v1', port: 8080 }, request: { set: [['x-a', '1']] } },
            { weight: 70, target: { service: 'shop/cart.shop.svc.cluster.local', port: 9090 } },
          ],
          rewrite: { authority: 'inner', path: { kind: 'prefix', matched: '/a', value: '/b' } },
        },
        timeoutMs: 1500,
        retry: {
          attempts: 3,
          perTryTimeoutMs: 250,
          on: ['5xx', 'connect-failure'],
          statuses: [503],
          evenIfNotIdempotent: true,
        },
      },
    ]);
  });

  test.each<readonly [string, object, string, object]>([
    [
      'redirect',
      { redirect: { uri: '/x', authority: 'y', redirectCode: 308 } },
      'action',
      {
        kind: 'redirect',
        redirect: { status: 308, authority: 'y', path: { kind: 'full', value: '/x' } },
      },
    ],
    [
      'directResponse',
      { directResponse: { status: 418, body: { string: 'tea' } } },
      'action',
      { kind: 'respond', status: 418, body: 'tea' },
    ],
    [
      'fault',
      {
        route: [to('reviews')],
        fault: {
          delay: { fixedDelay: '2s', percentage: { value: 10 } },
          abort: { httpStatus: 500, percentage: { value: 100 } },
        },
      },
      'fault',
      { delay: { ms: 2000, percentage: 10 }, abort: { status: 500, percentage: 100 } },
    ],
    [
      'fault of gRPC, never without a share',
      { route: [to('reviews')], fault: { abort: { grpcStatus: 'RESOURCE_EXHAUSTED' } } },
      'fault',
      { abort: { status: 429, grpcStatus: 8, percentage: 0 } },
    ],
    [
      'mirror',
      {
        route: [to('reviews')],
        mirror: { host: 'cart', port: { number: 8080 } },
        mirrorPercentage: { value: 5 },
      },
      'mirrors',
      [{ percentage: 5 }],
    ],
    [
      'cors',
      {
        route: [to('reviews')],
        corsPolicy: {
          allowOrigins: [{ exact: 'https://a' }],
          maxAge: '1h',
          allowCredentials: true,
        },
      },
      'cors',
      {
        allowOrigins: [{ kind: 'exact', value: 'https://a' }],
        maxAgeSeconds: 3600,
        allowCredentials: true,
      },
    ],
  ])('%s', (_name, route, part, expected) => {
    const { http, problems } = compile({ hosts: ['reviews'], http: [route] });
    expect(problems).toEqual([]);
    expect(http[0]?.[part as 'action']).toMatchObject(expected);
  });

  test('a delegate: both matches hold, a clash is left out', () => {
    const { http, problems } = compile(
      {
        hosts: ['reviews'],
        http: [
          {
            match: [{ uri: { prefix: '/a' }, headers: { x: { exact: '1' } } }],
            delegate: { name: 'inner' },
          },
        ],
      },
      {
        inner: {
          http: [
            { match: [{ uri: { prefix: '/a/b' } }], route: [to('reviews')] },
            { match: [{ uri: { prefix: '/z' } }], route: [to('reviews')] },
            { route: [to('cart', { port: { number: 8080 } })] },
          ],
        },
      },
    );
    expect(problems.map(({ field }) => field)).toEqual(['spec.http[0].delegate']);
    expect(
      http.map(({ matches }) => matches.map(({ path, headers }) => [path, headers.length])),
    ).toEqual([[[{ kind: 'prefix', value: '/a/b' }, 1]], [[{ kind: 'prefix', value: '/a' }, 1]]]);
  });
});

describe('what depends on the match', () => {
  const rewritten = (...match: object[]): unknown[] =>
    compile({
      hosts: ['reviews'],
      http: [{ match, route: [to('reviews')], rewrite: { uri: '/z' } }],
    }).http.map(({ matches, action }) => [
      matches.length,
      'rewrite' in action && action.rewrite.path,
    ]);

  test('a prefix is rewritten for each match by its own', () => {
    const prefix = (matched: string) => ({ kind: 'prefix', matched, value: '/z' });
    expect(
      rewritten(
        { uri: { prefix: '/a' } },
        { uri: { prefix: '/a' }, method: { exact: 'GET' } },
        { uri: { prefix: '/bb' } },
        { uri: { exact: '/c' } },
        { method: { exact: 'PUT' } },
      ),
    ).toEqual([
      [2, prefix('/a')],
      [1, prefix('/bb')],
      [1, { kind: 'full', value: '/z' }],
      [1, prefix('/')],
    ]);
    expect(rewritten()).toEqual([[0, prefix('/')]]);
  });

  test('a delegate has what its root says, where it says nothing itself', () => {
    const { http, problems } = compile(
      {
        hosts: ['reviews'],
        http: [
          {
            name: 'root',
            match: [{ uri: { prefix: '/a' } }],
            delegate: { name: 'inner' },
            timeout: '1s',
            rewrite: { uri: '/' },
            headers: { request: { set: { a: 'root' } } },
          },
        ],
      },
      {
        inner: {
          http: [
            { name: 'inner', route: [to('reviews')], timeout: '2s' },
            { route: [to('far.other')] },
          ],
        },
      },
    );
    expect(problems).toEqual([]);
    expect(http).toMatchObject([
      {
        name: 'VirtualService/shop/inner/root-inner',
        object: 'VirtualService/shop/vs',
        timeoutMs: 2000,
        request: { set: [['a', 'root']] },
        action: { rewrite: { path: { kind: 'prefix', matched: '/a', value: '/' } } },
      },
      { name: 'VirtualService/shop/inner/root', timeoutMs: 1000 },
    ]);
  });

  describe('mirror and mirrors', () => {
    const mirror = { host: 'reviews' };
    const mirrors = [{ destination: { host: 'far.other' }, percentage: { value: 50 } }];
    const targets = (root: object, inner: object, delegate: object = { name: 'inner' }) => {
      const spec = { hosts: ['reviews'], http: [{ delegate, ...root }] };
      const route = { route: [to('reviews.shop')], ...inner };
      const { http, problems } = compile(spec, { inner: { http: [route] } });
      expect(problems).toEqual([]);
      return http[0]?.mirrors.map(({ target, percentage }) => [
        target.kind === 'service' ? target.service : target.kind,
        percentage,
      ]);
    };
    const reviews = 'shop/reviews.shop.svc.cluster.local';
    const far = 'other/far.other.svc.cluster.local';

    test('one of the root and the other of its delegate: both are mirrored to', () => {
      const both = [
        [reviews, 100],
        [far, 50],
      ];
      expect(targets({ mirror }, { mirrors })).toEqual(both);
      expect(targets({ mirrors }, { mirror })).toEqual(both);
      expect(targets({ mirror }, { mirror: { host: 'far.other' } })).toEqual([[far, 100]]);
    });

    test("the root's short names are of its own namespace", () => {
      const elsewhere = { name: 'inner', namespace: 'other' };
      expect(targets({ mirror }, {}, elsewhere)).toEqual([[reviews, 100]]);
      const short = [{ destination: { host: 'reviews' } }];
      expect(targets({ mirrors: short }, {}, elsewhere)).toEqual([[reviews, 100]]);
    });
  });

  test.each([
    [['.'], 'other', false],
    [['other'], 'other', false],
    [['~'], 'shop', false],
    [['third'], 'shop', false],
    [['shop'], 'other', true],
    [['*'], 'other', true],
    [undefined, 'other', true],
    [['.'], 'shop', true],
  ])('a delegate with exportTo %j in namespace %s is taken: %s', (exportTo, namespace, taken) => {
    const http = [{ delegate: { name: 'inner', namespace } }];
    const inner = { ...(exportTo && { exportTo }), http: [{ route: [to('reviews.shop')] }] };
    const { http: routes, problems } = compile({ hosts: ['reviews'], http }, { inner });
    const action = routes[0]?.action;
    expect(action?.kind === 'forward' && action.targets[0]?.target.kind).toBe(
      taken ? 'service' : 'missing',
    );
    const message = `VirtualService ${namespace}/inner is not exported to namespace shop; requests are answered 500`;
    const told = { field: 'spec.http[0].delegate', message, admissible: true };
    expect(problems).toMatchObject(taken ? [] : [told]);
  });
});

describe('what cannot be understood never holds for less than was meant, and is closed', () => {
  const closed = (http: CompiledVirtualService['http'], at = 0): unknown => {
    const action = http[at]?.action;
    return action?.kind === 'forward' && action.targets[0]?.target.kind;
  };

  test('of several matches the good ones go on, what the bad one may have meant is refused', () => {
    const { http } = compile({
      hosts: ['reviews'],
      http: [
        {
          match: [
            { uri: { prefix: '/a' }, headers: { x: { regex: '(' } } },
            { uri: { prefix: '/b' } },
          ],
          route: [to('reviews')],
        },
      ],
    });
    expect(http).toHaveLength(2);
    expect(closed(http)).toBe('service');
    expect(http.map(({ unsure }) => unsure)).toEqual([undefined, true]);
    expect(http[0]?.matches).toMatchObject([{ path: { value: '/b' } }]);
    expect(closed(http, 1)).toBe('missing');
    expect(http[1]?.matches).toMatchObject([
      { path: { value: '/a' }, headers: [{ name: 'x', match: { kind: 'present' } }] },
    ]);
  });

  test.each<readonly [string, object, string]>([
    ['a bad regex alone', { match: [{ uri: { regex: '(' } }] }, 'match[0].uri.regex'],
    [
      'a bad regex to rewrite',
      { rewrite: { uriRegexRewrite: { match: '(' } } },
      'rewrite.uriRegexRewrite.match',
    ],
    ...['/\\2', '/\\n', '/\\'].map(
      (rewrite) =>
        [
          `a bad replacement ${rewrite}`,
          { rewrite: { uriRegexRewrite: { match: '^/(a)', rewrite } } },
          'rewrite.uriRegexRewrite.rewrite',
        ] as const,
    ),
    [
      'two rewrites',
      { rewrite: { uri: '/', uriRegexRewrite: { match: 'a' } } },
      'rewrite.uriRegexRewrite',
    ],
    ['a space in a path', { rewrite: { uri: '/a b' } }, 'rewrite.uri'],
    ['a line end in an authority', { rewrite: { authority: 'a\r\nb: c' } }, 'rewrite.authority'],
    ['two things to do', { redirect: { uri: '/' } }, 'redirect'],
    [
      'a line end in a header',
      { headers: { request: { set: { a: 'b\r\nc: d' } } } },
      'headers.request.set[a]',
    ],
    [
      'a framing header',
      { headers: { response: { add: { 'Content-Length': '1' } } } },
      'headers.response.add[Content-Length]',
    ],
    [
      'the identity of the client',
      { headers: { request: { set: { 'X-Forwarded-Client-Cert': 'me' } } } },
      'headers.request.set[X-Forwarded-Client-Cert]',
    ],
    [
      'a pseudo-header',
      { headers: { request: { set: { ':path': '/' } } } },
      'headers.request.set[:path]',
    ],
    [
      'an operator that there is not',
      { headers: { request: { set: { a: '%NONSENSE%' } } } },
      'headers.request.set[a]',
    ],
    [
      'a percent sign alone',
      { headers: { response: { add: { a: '100% sure' } } } },
      'headers.response.add[a]',
    ],
    [
      'a space in the authority',
      { headers: { request: { set: { Host: 'a b' } } } },
      'headers.request.set[Host]',
    ],
    ['a dangling delegate', { route: undefined, delegate: { name: 'nobody' } }, 'delegate'],
    ['a delegate beside a route', { delegate: { name: 'nobody' } }, 'delegate'],
  ])('%s', (_name, more, field) => {
    const spec = JSON.parse(JSON.stringify({ route: [to('reviews')], ...more })) as object;
    const { http, problems } = compile({ hosts: ['reviews'], http: [spec] });
    expect(problems.map((one) => one.field)).toContain(`spec.http[0].${field}`);
    expect(http.map((_one, index) => closed(http, index))).toEqual(['missing']);
  });

  test('a replacement that names a group which is not there says which there are', () => {
    const uriRegexRewrite = { match: '^/(a)', rewrite: '/\\2' };
    const spec = { route: [to('reviews')], rewrite: { uriRegexRewrite } };
    const { problems } = compile({ hosts: ['reviews'], http: [spec] });
    expect(problems.map(({ message }) => message)).toEqual([
      expect.stringContaining('names \\2, and the expression of match has one group'),
    ]);
    const fine = {
      ...spec,
      rewrite: { uriRegexRewrite: { match: '^/(a)', rewrite: '/\\1\\\\\\0' } },
    };
    expect(compile({ hosts: ['reviews'], http: [fine] }).problems).toEqual([]);
  });

  test.each<readonly [string, object]>([
    ['a bad subnet', { destinationSubnets: ['x'] }],
    ['only other gateways', { gateways: ['g'] }],
  ])('a connection with %s matches nothing', (_name, match) => {
    const { tcp } = compile({
      hosts: ['reviews'],
      tcp: [{ match: [match], route: [to('reviews')] }, { route: [to('far.other')] }],
    });
    expect(tcp).toMatchObject([{ matches: [], targets: [{ target: { port: 80 } }] }]);
  });
});

test('values of headers are format strings; one that is the same for all requests is text', () => {
  const { http, problems } = compile({
    hosts: ['reviews'],
    http: [
      {
        route: [to('reviews')],
        headers: {
          request: { set: { 'X-From': '%DOWNSTREAM_REMOTE_ADDRESS%', 'x-sure': '100%%' } },
          response: { add: { 'X-Id': 'id=%REQ(x-request-id)%' } },
        },
      },
    ],
  });
  expect(problems).toEqual([]);
  expect(http).toMatchObject([
    {
      request: {
        set: [['x-sure', '100%']],
        formats: { set: [['x-from', '%DOWNSTREAM_REMOTE_ADDRESS%']], add: [] },
      },
      response: { add: [], formats: { set: [], add: [['x-id', 'id=%REQ(x-request-id)%']] } },
    },
  ]);
});

describe('what is wrong is told by its field, and answers an error where it is asked', () => {
  test.each<readonly [string, object, string]>([
    [
      'an unknown field',
      { http: [{ route: [to('reviews')], nonsense: 1 }] },
      'spec.http[0].nonsense',
    ],
    [
      'an unknown backend',
      { http: [{ route: [to('nobody')] }] },
      'spec.http[0].route[0].destination.host',
    ],
    [
      'an unknown port',
      { http: [{ route: [to('reviews', { port: { number: 1 } })] }] },
      'spec.http[0].route[0].destination.port.number',
    ],
    [
      'no port of several',
      { hosts: ['far.other'], http: [{ route: [to('cart')] }] },
      'spec.http[0].route[0].destination.port.number',
    ],
    [
      'a subset nobody defines',
      { http: [{ route: [to('reviews', { subset: 'v9' })] }] },
      'spec.http[0].route[0].destination.subset',
    ],
    [
      'weights that sum to 0',
      {
        http: [
          {
            route: [
              { ...to('reviews'), weight: 0 },
              { ...to('reviews'), weight: 0 },
            ],
          },
        ],
      },
      'spec.http[0].route',
    ],
    ['nothing to do', { http: [{}] }, 'spec.http[0].route'],
    [
      'a bad regex',
      { http: [{ match: [{ uri: { regex: '(' } }], route: [to('reviews')] }] },
      'spec.http[0].match[0].uri.regex',
    ],
    [
      'a regex with a backreference',
      { http: [{ match: [{ uri: { regex: '(a)\\1' } }], route: [to('reviews')] }] },
      'spec.http[0].match[0].uri.regex',
    ],
    [
      'two kinds of match',
      { http: [{ match: [{ uri: { exact: '/', prefix: '/' } }], route: [to('reviews')] }] },
      'spec.http[0].match[0].uri',
    ],
    [
      'a bad duration',
      { http: [{ route: [to('reviews')], timeout: 'soon' }] },
      'spec.http[0].timeout',
    ],
    [
      'an unknown retry condition',
      { http: [{ route: [to('reviews')], retries: { retryOn: 'often' } }] },
      'spec.http[0].retries.retryOn',
    ],
    [
      'a bad redirect code',
      { http: [{ redirect: { redirectCode: 200 } }] },
      'spec.http[0].redirect.redirectCode',
    ],
    [
      'a field that is not done',
      { http: [{ route: [to('reviews')], match: [{ statPrefix: 'x' }] }] },
      'spec.http[0].match[0].statPrefix',
    ],
    ['a missing delegate', { http: [{ delegate: { name: 'nobody' } }] }, 'spec.http[0].delegate'],
    ['a delegate with hosts', { http: [{ delegate: { name: 'hosts' } }] }, 'spec.http[0].delegate'],
    [
      'a delegate of a delegate',
      { http: [{ delegate: { name: 'cyclic' } }] },
      'spec.http[0].delegate',
    ],
    [
      'a bad subnet',
      { tcp: [{ match: [{ destinationSubnets: ['x'] }], route: [to('reviews')] }] },
      'spec.tcp[0].match[0].destinationSubnets[0]',
    ],
  ])('%s', (_name, spec, field) => {
    const { problems } = compile(
      { hosts: ['reviews'], ...spec },
      { hosts: { hosts: ['x'] }, cyclic: { http: [{ delegate: { name: 'cyclic' } }] } },
    );
    expect(problems.map((one) => one.field)).toContain(field);
  });

  test('a missing backend is a target of its own, never left out', () => {
    const { http } = compile({ hosts: ['reviews'], http: [{ route: [to('nobody')] }] });
    expect(http[0]?.action).toMatchObject({
      targets: [{ weight: 100, target: { kind: 'missing' } }],
    });
  });
});

test.each([
  ['retries.attempts', { retries: { attempts: -1 } }],
  ['fault.delay.fixedDelay', { fault: { delay: { percentage: { value: 100 } } } }],
  ['fault.abort', { fault: { abort: { percentage: { value: 100 } } } }],
])('%s that does nothing is told', (field, more) => {
  const { http, problems } = compile({
    hosts: ['reviews'],
    http: [{ route: [to('reviews')], ...more }],
  });
  expect(problems.map((one) => one.field)).toEqual([`spec.http[0].${field}`]);
  expect(http[0]?.fault).toEqual({});
  expect(http[0]?.retry?.attempts ?? 0).toBe(0);
});

describe('DestinationRule', () => {
  const rule = (spec: object, name = 'dr', createdAt = '2026-01-01T00:00:00Z') =>
    compileDestinationRule(
      decoded(decodeDestinationRule, {
        metadata: { name, namespace: 'shop', creationTimestamp: createdAt },
        spec,
      }),
      'cluster.local',
    );

  test('limits, outliers, balancing, subsets and ports', () => {
    const { policy, subsets, problems } = rule({
      host: 'reviews',
      trafficPolicy: {
        loadBalancer: { consistentHash: { httpCookie: { name: 'u', ttl: '0s' } } },
        connectionPool: {
          tcp: { maxConnections: 7, connectTimeout: '30ms' },
          http: { http1MaxPendingRequests: 1, maxRetries: 2 },
        },
        outlierDetection: {
          consecutive5xxErrors: 2,
          interval: '1s',
          baseEjectionTime: '3m',
          maxEjectionPercent: 100,
        },
        portLevelSettings: [{ port: { number: 9090 }, loadBalancer: { simple: 'ROUND_ROBIN' } }],
      },
      subsets: [
        {
          name: 'v1',
          labels: { version: 'v1' },
          trafficPolicy: { loadBalancer: { simple: 'RANDOM' } },
        },
      ],
    });
    expect(problems).toEqual([]);
    expect(policy).toMatchObject({
      balancing: { kind: 'ring-hash', key: { kind: 'cookie', name: 'u', ttlSeconds: 0 } },
      pool: { maxConnections: 7, connectTimeoutMs: 30, maxPendingRequests: 1, maxRetries: 2 },
      outlier: {
        consecutive5xx: 2,
        intervalMs: 1000,
        baseEjectionMs: 180_000,
        maxEjectionPercent: 100,
      },
      ports: [
        {
          port: 9090,
          settings: { balancing: { kind: 'round-robin' }, pool: { connectTimeoutMs: 10_000 } },
        },
      ],
    });
    expect(subsets).toMatchObject([
      {
        name: 'v1',
        labels: [['version', 'v1']],
        policy: { balancing: { kind: 'random' }, pool: { maxConnections: 7 } },
      },
    ]);
  });

  test('what is not done is told by its field', () => {
    const { problems } = rule({
      host: 'reviews',
      workloadSelector: { matchLabels: { a: 'b' } },
      trafficPolicy: {
        tunnel: { protocol: 'CONNECT', targetHost: 'proxy', targetPort: 8080 },
      },
    });
    expect(problems.map(({ field }) => field).sort()).toEqual([
      'spec.trafficPolicy.tunnel',
      'spec.workloadSelector',
    ]);
  });

  test('TLS to endpoints: files of the waypoint, for a subset and a port too', () => {
    const { policy, subsets, problems } = rule({
      host: 'reviews',
      trafficPolicy: {
        tls: {
          mode: 'MUTUAL',
          sni: 'x',
          clientCertificate: '/etc/c.pem',
          privateKey: '/etc/k.pem',
          caCertificates: 'system',
        },
        proxyProtocol: { version: 'V2' },
        portLevelSettings: [{ port: { number: 80 }, tls: { mode: 'DISABLE' } }],
      },
      subsets: [{ name: 'v1', trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } }],
    });
    expect(problems.map(({ field }) => field)).toEqual(['spec.trafficPolicy.proxyProtocol']);
    expect(policy).toMatchObject({
      proxyProtocol: 'v2',
      tls: {
        mode: 'mutual',
        sni: 'x',
        subjectAltNames: [],
        source: {
          kind: 'files',
          ca: 'system',
          certificate: '/etc/c.pem',
          privateKey: '/etc/k.pem',
        },
      },
      ports: [{ port: 80, settings: { tls: { mode: 'disable' } } }],
    });
    expect(subsets[0]?.policy).toMatchObject({
      proxyProtocol: 'v2',
      tls: { mode: 'istio-mutual', subjectAltNames: [] },
    });
  });

  test.each([
    [{ mode: 'MUTUAL' }, 'clientCertificate'],
    [{ mode: 'MUTUAL', clientCertificate: '/c.pem' }, 'privateKey'],
    [{ mode: 'SIMPLE', caCertificates: 'ca.pem' }, 'caCertificates'],
    [{ mode: 'SIMPLE', credentialName: 'a', caCertificates: '/ca.pem' }, 'caCertificates'],
    [{ mode: 'SIMPLE', credentialName: '../a' }, 'credentialName'],
  ])('TLS that cannot be done is told and sends nothing: %j', (tls, field) => {
    const { policy, problems } = rule({ host: 'reviews', trafficPolicy: { tls } });
    expect(problems.map((one) => one.field)).toContain(`spec.trafficPolicy.tls.${field}`);
    expect(policy.tls?.mode).toBe('broken');
  });

  test('connectionPool in full', () => {
    const { policy, problems } = rule({
      host: 'reviews',
      trafficPolicy: {
        connectionPool: {
          tcp: {
            maxConnections: 1,
            connectTimeout: '2s',
            idleTimeout: '3s',
            maxConnectionDuration: '4s',
            tcpKeepalive: { probes: 5, time: '6s', interval: '7s' },
          },
          http: {
            http1MaxPendingRequests: 8,
            http2MaxRequests: 9,
            maxRequestsPerConnection: 10,
            maxRetries: 11,
            idleTimeout: '12s',
            h2UpgradePolicy: 'UPGRADE',
            useClientProtocol: true,
            maxConcurrentStreams: 13,
          },
        },
      },
    });
    expect(problems).toEqual([]);
    expect(policy.pool).toEqual({
      maxConnections: 1,
      connectTimeoutMs: 2000,
      tcpIdleTimeoutMs: 3000,
      maxConnectionDurationMs: 4000,
      keepalive: { probes: 5, timeMs: 6000, intervalMs: 7000 },
      maxPendingRequests: 8,
      maxRequests: 9,
      maxRequestsPerConnection: 10,
      maxRetries: 11,
      idleTimeoutMs: 12_000,
      h2Upgrade: 'upgrade',
      useClientProtocol: true,
      maxConcurrentStreams: 13,
    });
  });

  test('numbers that make no sense are told by their fields, and limit nothing', () => {
    const tcp = { maxConnections: -1, tcpKeepalive: { probes: -1 } };
    const http = {
      http1MaxPendingRequests: -1,
      http2MaxRequests: -1,
      maxRequestsPerConnection: -1,
      maxRetries: -1,
      maxConcurrentStreams: -1,
    };
    const { policy, problems } = rule({
      host: 'reviews',
      trafficPolicy: {
        connectionPool: { tcp, http },
        retryBudget: { percent: 5, minRetryConcurrency: -1 },
      },
    });
    const pool = 'spec.trafficPolicy.connectionPool';
    expect(problems.map(({ field }) => field).sort()).toEqual(
      [
        ...Object.keys(http).map((name) => `${pool}.http.${name}`),
        `${pool}.tcp.maxConnections`,
        `${pool}.tcp.tcpKeepalive.probes`,
        'spec.trafficPolicy.retryBudget.minRetryConcurrency',
      ].sort(),
    );
    expect(problems[0]?.message).toBe('must not be negative; it is left out');
    expect(policy.pool.maxConnections).toBeUndefined();
    expect(policy.retryBudget).toEqual({ percent: 5, minRetryConcurrency: 3 });
    const zero = { tcp: { maxConnections: 0 }, http: { maxRetries: 0 } };
    expect(rule({ host: 'reviews', trafficPolicy: { connectionPool: zero } }).problems).toEqual([]);
  });

  test('a name that two subsets have is told at the second', () => {
    const { problems } = rule({ host: 'reviews', subsets: [{ name: 'a' }, { name: 'a' }] });
    expect(problems).toMatchObject([
      {
        field: 'spec.subsets[1].name',
        message: 'subset a is already defined by spec.subsets[0]; rename or remove it',
      },
    ]);
  });

  test('several rules of one service: every subset, the oldest policy', () => {
    const older = rule(
      {
        host: 'reviews',
        trafficPolicy: { loadBalancer: { simple: 'RANDOM' } },
        subsets: [{ name: 'a' }],
      },
      'b',
      '2026-01-01T00:00:00Z',
    );
    const newer = rule(
      {
        host: 'reviews',
        trafficPolicy: { loadBalancer: { simple: 'ROUND_ROBIN' } },
        subsets: [{ name: 'a' }, { name: 'c' }],
      },
      'a',
      '2026-01-02T00:00:00Z',
    );
    const merged = older.service && mergeDestinationRules(older.service, [newer, older]);
    expect(merged?.policy.balancing).toEqual({ kind: 'random' });
    expect(merged?.subsets.map(({ name }) => name)).toEqual(['a', 'c']);
  });
});

test.each([
  ['1.5s', 1500],
  ['250ms', 250],
  ['1h30m', 5_400_000],
  ['0s', 0],
  ['', undefined],
  ['5', undefined],
  ['-1s', undefined],
  ['1d', undefined],
])('duration %s', (text, ms) => {
  expect(durationMs(text)).toBe(ms);
});
