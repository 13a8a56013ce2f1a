import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { decodeAuthorizationPolicy } from '../kube/decode/policy.ts';
import type { CompiledPolicy } from './policy.ts';
import { compilePolicy } from './policy.ts';

function compile(spec: unknown, metadata: object = {}): CompiledPolicy {
  const object = { metadata: { name: 'p', namespace: 'shop', ...metadata }, spec };
  return compilePolicy(decoded(decodeAuthorizationPolicy, object), {
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
}

const always = { from: [], to: [], when: [] };

describe('whom a policy holds for', () => {
  const rules = [{}];
  test.each([
    ['no selector: its namespace', { rules }, {}, { kind: 'namespace' }],
    ['an empty selector: its namespace', { rules, selector: {} }, {}, { kind: 'namespace' }],
    [
      'a selector: what it selects',
      { rules, selector: { matchLabels: { app: 'a' } } },
      {},
      { kind: 'selected' },
    ],
    ['root namespace: the mesh', { rules }, { namespace: 'istio-system' }, { kind: 'mesh' }],
    [
      'root namespace with a selector: what it selects',
      { rules, selector: { matchLabels: { app: 'a' } } },
      { namespace: 'istio-system' },
      { kind: 'selected' },
    ],
  ])('%s', (_name, spec, metadata, scope) => {
    expect(compile(spec, metadata).policy?.scope).toEqual(scope);
  });

  const group = 'gateway.networking.k8s.io';
  test.each([
    [
      'a Gateway',
      { targetRef: { kind: 'Gateway', group, name: 'w' } },
      { kind: 'gateway', namespace: 'shop', name: 'w' },
    ],
    [
      'a Service',
      { targetRefs: [{ kind: 'Service', group: '', name: 'w' }] },
      { kind: 'service', service: 'shop/w.shop.svc.cluster.local' },
    ],
  ])('%s: the waypoints that serve it', (_name, spec, target) => {
    const { policy, problems } = compile({ ...spec, rules });
    expect(policy?.scope).toEqual({ kind: 'targeted', targets: [target] });
    expect(problems).toEqual([]);
  });

  test.each([
    ['a Gateway of no group', { kind: 'Gateway', name: 'w' }, 'spec.targetRefs[0].kind'],
    [
      'a class out of the root namespace',
      { kind: 'GatewayClass', group, name: 'w' },
      'spec.targetRefs[0]',
    ],
    ['no name', { kind: 'Service', group: '' }, 'spec.targetRefs[0].name'],
    [
      'another namespace',
      { kind: 'Service', group: '', name: 'w', namespace: 'other' },
      'spec.targetRefs[0].namespace',
    ],
  ])('%s is told, and holds for nobody', (_name, ref, field) => {
    const { policy, problems } = compile({ targetRefs: [ref], rules });
    expect(policy?.scope).toEqual({ kind: 'targeted', targets: [] });
    expect(problems).toMatchObject([{ field }]);
  });

  test('a selector and targetRefs: the selector, and a problem', () => {
    const { policy, problems } = compile({
      targetRefs: [{ kind: 'Gateway', name: 'w' }],
      selector: { matchLabels: { app: 'a' } },
      rules,
    });
    expect(policy?.scope).toEqual({ kind: 'selected' });
    expect(problems).toMatchObject([{ field: 'spec.targetRefs' }]);
  });
});

describe('action, rules and dry run', () => {
  test('no spec allows nothing', () => {
    expect(compile(undefined).policy).toMatchObject({ action: 'ALLOW', rules: [], dryRun: false });
  });
  test.each(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'] as const)('%s is kept', (action) => {
    expect(compile({ action, rules: [{}] }).policy).toMatchObject({ action, rules: [always] });
  });
  test.each([
    ['true', true, 0],
    ['false', false, 0],
    ['yes', false, 1],
  ])('dry run %s', (annotation, dryRun, problems) => {
    const compiled = compile({ rules: [] }, { annotations: { 'istio.io/dry-run': annotation } });
    expect(compiled.policy?.dryRun).toBe(dryRun);
    expect(compiled.problems).toHaveLength(problems);
  });
});

describe('every field', () => {
  const exact = (value: string) => ({ kind: 'exact', value });
  const source = (fields: object) => compile({ rules: [{ from: [{ source: fields }] }] });
  const operation = (fields: object) => compile({ rules: [{ to: [{ operation: fields }] }] });
  const when = (condition: object) => compile({ rules: [{ when: [condition] }] });
  const connection = (attribute: string, values: unknown[], notValues: unknown[] = []) => ({
    kind: 'connection',
    attribute,
    values,
    notValues,
  });

  test.each([
    [
      'principals',
      { principals: ['cluster.local/ns/a/sa/b'], notPrincipals: ['*/sa/c'] },
      connection(
        'source.principal',
        [exact('cluster.local/ns/a/sa/b')],
        [{ kind: 'suffix', value: '/sa/c' }],
      ),
    ],
    [
      'any principal',
      { principals: ['*'] },
      connection('source.principal', [{ kind: 'presence' }]),
    ],
    [
      'namespaces',
      { namespaces: ['a*'], notNamespaces: ['ab'] },
      connection('source.namespace', [{ kind: 'prefix', value: 'a' }], [exact('ab')]),
    ],
    [
      'serviceAccounts, with and without a namespace',
      { serviceAccounts: ['other/a', 'b'], notServiceAccounts: ['c'] },
      connection('source.serviceAccount', [exact('other/a'), exact('shop/b')], [exact('shop/c')]),
    ],
    [
      'ipBlocks',
      { ipBlocks: ['10.0.0.0/8', 'fd00::1'], notIpBlocks: ['10.1.2.3'] },
      {
        kind: 'address',
        attribute: 'source.ip',
        values: [
          { ip: '10.0.0.0', prefixLength: 8 },
          { ip: 'fd00::1', prefixLength: 128 },
        ],
        notValues: [{ ip: '10.1.2.3', prefixLength: 32 }],
      },
    ],
    [
      'remoteIpBlocks',
      { remoteIpBlocks: ['10.0.0.0/8'] },
      {
        kind: 'address',
        attribute: 'remote.ip',
        values: [{ ip: '10.0.0.0', prefixLength: 8 }],
        notValues: [],
      },
    ],
    [
      'requestPrincipals',
      { requestPrincipals: ['i/s'] },
      {
        kind: 'request',
        attribute: { kind: 'requestPrincipal' },
        values: [exact('i/s')],
        notValues: [],
      },
    ],
  ])('source: %s', (_name, fields, match) => {
    const { policy, problems } = source(fields);
    expect(problems).toEqual([]);
    expect(policy?.rules).toEqual([{ from: [[match]], to: [], when: [] }]);
  });

  test.each([
    [
      'ports',
      { ports: ['80'], notPorts: ['8080'] },
      { kind: 'port', attribute: 'destination.port', values: [80], notValues: [8080] },
    ],
    [
      'hosts',
      { hosts: ['a.b'] },
      { kind: 'request', attribute: { kind: 'host' }, values: [exact('a.b')], notValues: [] },
    ],
    [
      'methods',
      { notMethods: ['GET'] },
      { kind: 'request', attribute: { kind: 'method' }, values: [], notValues: [exact('GET')] },
    ],
    [
      'paths',
      { paths: ['/a/{*}/b', '/c*'] },
      {
        kind: 'request',
        attribute: { kind: 'path' },
        values: [
          { kind: 'template', value: '/a/{*}/b' },
          { kind: 'prefix', value: '/c' },
        ],
        notValues: [],
      },
    ],
  ])('operation: %s', (_name, fields, match) => {
    const { policy, problems } = operation(fields);
    expect(problems).toEqual([]);
    expect(policy?.rules).toEqual([{ from: [], to: [[match]], when: [] }]);
  });

  test.each([
    [
      'source.ip',
      ['10.0.0.1'],
      { kind: 'address', attribute: 'source.ip', values: [{ ip: '10.0.0.1', prefixLength: 32 }] },
    ],
    ['remote.ip', ['10.0.0.1'], { kind: 'address', attribute: 'remote.ip' }],
    ['destination.ip', ['10.0.0.1'], { kind: 'address', attribute: 'destination.ip' }],
    ['source.namespace', ['a'], connection('source.namespace', [exact('a')])],
    [
      'source.principal',
      ['a/*'],
      connection('source.principal', [{ kind: 'prefix', value: 'a/' }]),
    ],
    ['source.serviceAccount', ['a'], connection('source.serviceAccount', [exact('shop/a')])],
    ['connection.sni', ['*.x'], connection('connection.sni', [{ kind: 'suffix', value: '.x' }])],
    ['destination.port', ['443'], { kind: 'port', values: [443] }],
    [
      'request.headers[X-Version]',
      ['1'],
      { kind: 'request', attribute: { kind: 'header', name: 'x-version' } },
    ],
    [
      'request.auth.principal',
      ['a/1'],
      { kind: 'request', attribute: { kind: 'requestPrincipal' } },
    ],
    ['request.auth.audiences', ['1'], { kind: 'request', attribute: { kind: 'audiences' } }],
    ['request.auth.presenter', ['1'], { kind: 'request', attribute: { kind: 'presenter' } }],
    [
      'request.auth.claims[a][b]',
      ['1'],
      { kind: 'request', attribute: { kind: 'claim', path: ['a', 'b'] } },
    ],
  ])('when: %s', (key, values, match) => {
    const { policy, problems } = when({ key, values });
    expect(problems).toEqual([]);
    expect(policy?.rules[0]?.when).toMatchObject([match]);
  });

  test('HTTP attributes are told, so that status can say who cannot see them', () => {
    expect(operation({ methods: ['GET'] }).requestFields).toEqual([
      'spec.rules[0].to[0].operation.methods',
    ]);
    expect(operation({ ports: ['80'] }).requestFields).toEqual([]);
  });

  test('matches of one source must all hold, sources are alternatives', () => {
    const { policy } = compile({
      rules: [
        {
          from: [
            { source: { namespaces: ['a'], ipBlocks: ['10.0.0.1'] } },
            { source: { namespaces: ['b'] } },
          ],
        },
      ],
    });
    expect(policy?.rules[0]?.from.map((clause) => clause.length)).toEqual([2, 1]);
  });
});

describe('what is malformed never widens access', () => {
  // [what, rule, what is left of it under ALLOW, what is left of it under DENY]
  const ns = {
    kind: 'connection',
    attribute: 'source.namespace',
    values: [{ kind: 'exact', value: 'a' }],
    notValues: [],
  };
  test.each([
    [
      'a bad port among good ones',
      { to: [{ operation: { ports: ['80', 'x'] } }] },
      { to: [[{ kind: 'port', values: [80] }]] },
      always,
    ],
    [
      'only bad ports',
      { to: [{ operation: { ports: ['0', '65536', '80-90', ''] } }] },
      undefined,
      always,
    ],
    [
      'a bad notPort',
      { to: [{ operation: { ports: ['80'], notPorts: ['x'] } }] },
      undefined,
      { to: [[{ values: [80], notValues: [] }]] },
    ],
    ['a bad range', { from: [{ source: { ipBlocks: ['10.0.0.0/33'] } }] }, undefined, always],
    [
      'a bad excluded range',
      { from: [{ source: { notIpBlocks: ['nowhere'] } }] },
      undefined,
      always,
    ],
    ['a star in the middle', { from: [{ source: { principals: ['a/*/b'] } }] }, undefined, always],
    ['stars at both ends', { from: [{ source: { principals: ['*a*'] } }] }, undefined, always],
    ['an empty value', { from: [{ source: { namespaces: [''] } }] }, undefined, always],
    [
      'a service account with a star',
      { from: [{ source: { serviceAccounts: ['a/*'] } }] },
      undefined,
      always,
    ],
    ['an empty source', { from: [{ source: {} }] }, undefined, always],
    ['a source of empty lists', { from: [{ source: { namespaces: [] } }] }, undefined, always],
    ['a source that is missing', { from: [{}] }, undefined, always],
    ['an empty operation', { to: [{ operation: {} }] }, undefined, always],
    ['an empty from', { from: [] }, undefined, always],
    ['an empty to', { to: [] }, undefined, always],
    ['an unknown key', { when: [{ key: 'source.shoe', values: ['1'] }] }, undefined, always],
    [
      'a header key that does not close',
      { when: [{ key: 'request.headers[x', values: ['1'] }] },
      undefined,
      always,
    ],
    ['a condition without values', { when: [{ key: 'source.ip' }] }, undefined, always],
    [
      'one bad source among good ones',
      { from: [{ source: { namespaces: ['a'] } }, { source: { ipBlocks: ['x'] } }] },
      { from: [[ns]] },
      always,
    ],
    [
      'a bad condition beside a good one',
      {
        when: [
          { key: 'source.namespace', values: ['a'] },
          { key: 'x', values: ['1'] },
        ],
      },
      undefined,
      { when: [ns] },
    ],
  ])('%s', (_name, rule, allowed, denied) => {
    const allow = compile({ action: 'ALLOW', rules: [rule] });
    const deny = compile({ action: 'DENY', rules: [rule] });
    expect(allow.problems.length).toBeGreaterThan(0);
    expect(deny.problems.length).toBeGreaterThan(0);
    expect(allow.policy?.rules).toMatchObject(allowed === undefined ? [] : [allowed]);
    expect(allow.policy?.rules).toHaveLength(allowed === undefined ? 0 : 1);
    expect(deny.policy?.rules).toMatchObject([denied]);
    expect(compile({ action: 'CUSTOM', rules: [rule] }).policy?.rules).toMatchObject([denied]);
  });

  test.each([
    ['an ALLOW with an unknown field', { rules: [{ form: [] }] }, 'ALLOW', []],
    ['a DENY with an unknown field', { action: 'DENY', rules: [{ form: [] }] }, 'DENY', [always]],
    ['an unknown action', { action: 'PERMIT', rules: [] }, 'DENY', [always]],
    ['rules that are no list', { action: 'DENY', rules: 'x' }, 'DENY', [always]],
    ['a spec that is no object', 'x', 'ALLOW', []],
    ['a hostile key', JSON.parse('{"__proto__": {"action": "DENY"}, "x": 1}'), 'ALLOW', []],
  ])('%s breaks the schema and is closed', (_name, spec, action, rules) => {
    const { policy, problems } = compile(spec);
    expect(policy).toMatchObject({ action, rules, scope: { kind: 'namespace' } });
    expect(problems[0]).toMatchObject({ object: 'AuthorizationPolicy shop/p' });
  });

  test('a broken policy still holds only for whom it selects', () => {
    const { policy, selector } = compile({ action: 'NO', selector: { matchLabels: { app: 'a' } } });
    expect(policy).toMatchObject({ action: 'DENY', scope: { kind: 'selected' } });
    expect(selector).toEqual(new Map([['app', 'a']]));
  });

  test('a broken selector makes it hold for the namespace', () => {
    const { policy } = compile({
      action: 'DENY',
      selector: { matchLabels: { app: 1 } },
      rules: [{}],
    });
    expect(policy).toMatchObject({ action: 'DENY', scope: { kind: 'namespace' } });
  });

  test('a broken policy with targets that can be read holds for those, and for the namespace otherwise', () => {
    const target = { kind: 'Service', group: '', name: 'w' };
    const scopeOf = (spec: object) => compile({ action: 'NO', ...spec }).policy?.scope;
    const targeted = {
      kind: 'targeted',
      targets: [{ kind: 'service', service: 'shop/w.shop.svc.cluster.local' }],
    };
    expect(scopeOf({ targetRefs: [target] })).toEqual(targeted);
    expect(scopeOf({ targetRef: target })).toEqual(targeted);
    expect(scopeOf({ targetRefs: [target, { kind: 1 }] })).toEqual({ kind: 'namespace' });
  });

  test.each([['/a/{**}/b/{*}'], ['/a/{*}.txt'], ['/*/b/{*}'], ['/{**}/{**}'], ['/{x}']])(
    '%s is no path template',
    (path) => {
      const allowing = compile({ rules: [{ to: [{ operation: { paths: [path] } }] }] });
      expect(allowing.policy?.rules).toEqual([]);
      expect(allowing.problems).toMatchObject([
        { field: 'spec.rules[0].to[0].operation.paths[0]' },
      ]);
    },
  );

  test.each([
    ['/a//b', { kind: 'exact', value: '/a/b' }],
    ['/a%2Fb', { kind: 'exact', value: '/a/b' }],
    ['/a/./b', { kind: 'exact', value: '/a/b' }],
    ['/a/../b', { kind: 'exact', value: '/b' }],
    ['/a\\\\b', { kind: 'exact', value: '/a/b' }],
    ['//admin%2F*', { kind: 'prefix', value: '/admin/' }],
    ['/*', { kind: 'prefix', value: '/' }],
    ['*/admin', { kind: 'suffix', value: '/admin' }],
    ['/a%2', { kind: 'exact', value: '/a%2' }],
  ])('a path %s is refused where requests for it arrive', (path, expected) => {
    const { policy } = compile({
      action: 'DENY',
      rules: [{ to: [{ operation: { paths: [path] } }] }],
    });
    expect(policy?.rules[0]?.to[0]).toMatchObject([{ values: [expected] }]);
  });

  test.each(['DENY', 'AUDIT', 'CUSTOM'])(
    '%s without rules holds for nothing, and is told',
    (action) => {
      for (const spec of [{ action }, { action, rules: [] }])
        expect(compile(spec).problems).toContainEqual({
          object: 'AuthorizationPolicy shop/p',
          field: 'spec.rules',
          message: `is empty, and ${action} without rules holds for nothing; write rules, {} for everything`,
        });
      expect(compile({}).problems).toEqual([]);
    },
  );

  test('a principal with its scheme is nobody, and is told', () => {
    const principals = ['cluster.local/ns/a/sa/b', 'spiffe://cluster.local/ns/a/sa/b'];
    const { problems } = compile({
      action: 'DENY',
      rules: [{ from: [{ source: { principals } }] }],
    });
    expect(problems).toEqual([
      {
        object: 'AuthorizationPolicy shop/p',
        field: 'spec.rules[0].from[0].source.principals[1]',
        message:
          '"spiffe://cluster.local/ns/a/sa/b" is nobody\'s principal: leave out spiffe://; it matches nothing',
        admissible: true,
      },
    ]);
  });

  test('values that nothing can have are told, with what is expected', () => {
    const told = (rule: object): readonly string[] =>
      compile({ action: 'DENY', rules: [rule] }).problems.map(({ field, message, admissible }) => {
        expect(admissible).toBe(true);
        return `${field.replace('spec.rules[0].', '')}: ${message}`;
      });
    const source = {
      namespaces: ['shop', 'A_B', 'web-*'],
      notNamespaces: ['Shop'],
      principals: ['a/b', '*/sa/web'],
      notPrincipals: ['web'],
      serviceAccounts: ['a.b/web', 'web'],
      notServiceAccounts: ['a.b/web'],
      requestPrincipals: ['me', '*@example.com', 'https://issuer/*'],
    };
    expect(told({ from: [{ source }] })).toEqual([
      `from[0].source.principals[0]: "a/b" is nobody's principal; write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT; it matches nothing`,
      `from[0].source.notPrincipals[0]: "web" is nobody's principal; write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT; it leaves nothing out`,
      'from[0].source.namespaces[1]: "A_B" is no name of a namespace, which has lower-case letters, digits and - only; it matches nothing',
      'from[0].source.notNamespaces[0]: "Shop" is no name of a namespace, which has lower-case letters, digits and - only; it leaves nothing out',
      'from[0].source.serviceAccounts[0]: "a.b/web" is no service account; write NAME or NAMESPACE/NAME, in lower-case letters, digits and -; it matches nothing',
      'from[0].source.notServiceAccounts[0]: "a.b/web" is no service account; write NAME or NAMESPACE/NAME, in lower-case letters, digits and -; it leaves nothing out',
      `from[0].source.requestPrincipals[0]: "me" is no token's principal; write ISSUER/SUBJECT; it matches nothing`,
    ]);
    const operation = {
      methods: ['get', 'GET', 'PROPFIND', 'g*'],
      paths: ['/a', 'admin', '*.html', 'admin/*', '*'],
      notPaths: ['b'],
    };
    expect(told({ to: [{ operation }] })).toEqual([
      'to[0].operation.methods[0]: "get" is no method; write GET; it matches nothing',
      'to[0].operation.paths[1]: "admin" is no path; begin it with /; it matches nothing',
      'to[0].operation.paths[3]: "admin/*" is no path; begin it with /; it matches nothing',
      'to[0].operation.notPaths[0]: "b" is no path; begin it with /; it leaves nothing out',
    ]);
    expect(
      told({ when: [{ key: 'source.namespace', values: ['a/b'], notValues: ['*'] }] }),
    ).toEqual([
      'when[0].values[0]: "a/b" is no name of a namespace, which has lower-case letters, digits and - only; it matches nothing',
    ]);
  });

  test('paths are compared as they are forwarded: escapes in capitals, and none where none is needed', () => {
    const { policy } = compile({
      rules: [{ to: [{ operation: { paths: ['/caf%c3%a9', '/café*', '/%7euser'] } }] }],
    });
    expect(policy?.rules[0]?.to[0]?.[0]).toMatchObject({
      values: [
        { kind: 'exact', value: '/caf%C3%A9' },
        { kind: 'prefix', value: '/caf%C3%A9' },
        { kind: 'exact', value: '/~user' },
      ],
    });
  });

  test('problems name object, field and fix', () => {
    const { problems } = compile({
      action: 'NO',
      rules: [{ to: [{ operation: { port: ['80'] } }] }],
    });
    expect(problems).toEqual([
      {
        object: 'AuthorizationPolicy shop/p',
        field: 'spec.rules[0].to[0].operation.port',
        message: 'there is no such field; remove it',
      },
      {
        object: 'AuthorizationPolicy shop/p',
        field: 'spec.action',
        message: 'must be one of ALLOW, DENY, AUDIT, CUSTOM',
      },
    ]);
  });
});

describe('a CUSTOM policy', () => {
  const compiledWith = (spec: object, authorizers: readonly string[]) => {
    const object = {
      metadata: { name: 'ask', namespace: 'shop' },
      spec: { action: 'CUSTOM', rules: [{}], ...spec },
    };
    const { policy, problems } = compilePolicy(
      decoded(decodeAuthorizationPolicy, object),
      { rootNamespace: 'istio-system', clusterDomain: 'cluster.local' },
      new Set(authorizers),
    );
    return { policy, told: problems.map(({ field, message }) => `${field}: ${message}`) };
  };
  const targetRefs = [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'waypoint' }];

  test('at a waypoint names its authorizer', () => {
    const { policy, told } = compiledWith({ targetRefs, provider: { name: 'gate' } }, ['gate']);
    expect(told).toEqual([]);
    expect(policy).toMatchObject({ action: 'CUSTOM', provider: 'gate' });
  });

  test.each([
    [
      'a provider that nobody defines',
      { targetRefs, provider: { name: 'nobody' } },
      /no external authorizer is called "nobody"/,
    ],
    ['no provider', { targetRefs }, /must name an extension provider/],
    ['no waypoint', { provider: { name: 'gate' } }, /which only a waypoint can/],
    [
      'another action',
      { action: 'DENY', targetRefs, provider: { name: 'gate' } },
      /is for action CUSTOM only/,
    ],
  ])('%s is told', (_what, spec, problem) => {
    const { policy, told } = compiledWith(spec, ['gate']);
    expect(told.join('\n')).toMatch(problem);
    expect(policy?.rules).toHaveLength(1);
  });
});
