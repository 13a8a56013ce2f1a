import { describe, expect, test } from '@jest/globals';
import type { AuthorizationPolicy, RequestAttribute, StringPattern } from '@ambit/api';
import { parseIp, parsePort, parseSpiffeIdentity } from '@ambit/api';
import { aPolicy, good } from '@ambit/testkit';
import { authorize } from './authorize.ts';
import type { ConnectionFacts, RequestFacts } from './facts.ts';

const ip = good(parseIp('10.0.0.1'));
const port = good(parsePort(80));
const identity = good(parseSpiffeIdentity('spiffe://cluster.local/ns/test/sa/client'));

function pattern(text: string): StringPattern {
  if (text === '*') return { kind: 'presence' };
  if (text.includes('{')) return { kind: 'template', value: text };
  if (text.startsWith('*')) return { kind: 'suffix', value: text.slice(1) };
  return text.endsWith('*')
    ? { kind: 'prefix', value: text.slice(0, -1) }
    : { kind: 'exact', value: text };
}

interface Asked {
  readonly action?: AuthorizationPolicy['action'];
  readonly attribute: RequestAttribute;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
  readonly dryRun?: boolean;
}

function policyOf({
  action = 'DENY',
  attribute,
  values = [],
  notValues = [],
  dryRun = false,
}: Asked) {
  const match = {
    kind: 'request',
    attribute,
    values: values.map(pattern),
    notValues: notValues.map(pattern),
  };
  return aPolicy({ action, dryRun, rules: [{ from: [], to: [], when: [match] }] });
}

function facts(request: Partial<RequestFacts> & { headers?: [string, string][] } = {}) {
  const { headers = [], ...rest } = request;
  const known: ConnectionFacts = {
    sourceIdentity: identity,
    sourceIp: ip,
    destinationIp: ip,
    destinationPort: port,
    request: {
      method: 'GET',
      authority: 'shop.test',
      path: '/',
      header: (name) => headers.filter(([one]) => one === name).map(([, value]) => value),
      ...rest,
    },
  };
  return known;
}

function verdict(asked: Asked, request: Parameters<typeof facts>[0]): 'allow' | 'deny' {
  return authorize({ policies: [policyOf(asked)], missing: [], undecodable: [] }, facts(request))
    .verdict;
}

describe('headers that come several times', () => {
  const attribute = { kind: 'header', name: 'x-role' } as const;
  const lines = {
    none: [],
    one: [['x-role', 'admin']],
    other: [['x-role', 'guest']],
    'admin first': [['x-role', 'admin'], ['x-role', 'guest']],
    'admin last': [['x-role', 'guest'], ['x-role', 'admin']],
    'in one line': [['x-role', 'guest, admin']],
    twice: [['x-role', 'admin'], ['x-role', 'admin']],
    empty: [['x-role', '']],
    'empty first': [['x-role', ''], ['x-role', 'admin']],
    'other case': [['x-role', 'Admin']],
  } satisfies Record<string, [string, string][]>; // prettier-ignore

  test.each([
    // What came, then: DENY admin, DENY but admin, ALLOW admin, ALLOW but admin, ALLOW any, DENY any.
    ['none', 'allow', 'deny', 'deny', 'allow', 'deny', 'allow'],
    ['one', 'deny', 'allow', 'allow', 'deny', 'allow', 'deny'],
    ['other', 'allow', 'deny', 'deny', 'allow', 'allow', 'deny'],
    ['admin first', 'deny', 'deny', 'deny', 'deny', 'allow', 'deny'],
    ['admin last', 'deny', 'deny', 'deny', 'deny', 'allow', 'deny'],
    ['in one line', 'deny', 'deny', 'deny', 'deny', 'allow', 'deny'],
    ['twice', 'deny', 'allow', 'allow', 'deny', 'allow', 'deny'],
    ['empty', 'allow', 'deny', 'deny', 'allow', 'allow', 'deny'],
    ['empty first', 'deny', 'deny', 'deny', 'deny', 'allow', 'deny'],
    ['other case', 'allow', 'deny', 'deny', 'allow', 'allow', 'deny'],
  ] as const)('%s', (came, ...expected) => {
    const headers = lines[came] as [string, string][];
    const asked: readonly Omit<Asked, 'attribute'>[] = [
      { action: 'DENY', values: ['admin'] },
      { action: 'DENY', notValues: ['admin'] },
      { action: 'ALLOW', values: ['admin'] },
      { action: 'ALLOW', notValues: ['admin'] },
      { action: 'ALLOW', values: ['*'] },
      { action: 'DENY', values: ['*'] },
    ];
    expect(asked.map((one) => verdict({ attribute, ...one }, { headers }))).toEqual(expected);
  });

  test('patterns', () => {
    const asks = (value: string, came: string) =>
      verdict({ attribute, action: 'ALLOW', values: [value] }, { headers: [['x-role', came]] });
    expect(asks('ad*', 'admin')).toBe('allow');
    expect(asks('*min', 'admin')).toBe('allow');
    expect(asks('ad.in', 'admin')).toBe('deny');
    expect(asks('(a+)+$', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!')).toBe('deny');
  });
});

describe('hosts', () => {
  test.each([
    ['shop.test', 'shop.test', true],
    ['shop.test', 'SHOP.test:8080', true],
    ['shop.test', 'shop.test.', true],
    ['shop.test', 'shop.test.:80', true],
    ['shop.test:8080', 'shop.test:8080', true],
    ['shop.test:8080', 'shop.test', false],
    ['*.test', 'shop.test:1', true],
    ['SHOP*', 'shop.test', true],
    ['[::1]', '[::1]:80', true],
    ['shop.test', 'evil.shop.test', false],
  ])('%s and %s', (value, authority, holds) => {
    const asked = { attribute: { kind: 'host' }, values: [value] } as const;
    expect(verdict(asked, { authority })).toBe(holds ? 'deny' : 'allow');
  });
});

describe('path templates', () => {
  test.each([
    ['/foo/{*}', '/foo/bar', true],
    ['/foo/{*}', '/foo/bar/baz', false],
    ['/foo/{*}', '/foo/', false],
    ['/foo/{**}/', '/foo/bar/', true],
    ['/foo/{**}/', '/foo//', true],
    ['/foo/{**}/', '/foo/bar', false],
    ['/foo/{*}/bar/{**}', '/foo/buzz/bar/', true],
    ['/foo/{*}/bar/{**}', '/foo/buzz/bar/baz', true],
    ['/foo/{*}/bar/{**}', '/foo/buzz/bar', false],
    ['/foo/{**}', '/foo/a/b/c', true],
    ['/foo/{**}', '/foo', false],
    ['/{**}/end', '/a/b/end', true],
    ['/{**}/end', '/a/b/ends', false],
  ])('%s and %s', (value, path, holds) => {
    const asked = { attribute: { kind: 'path' }, values: [value] } as const;
    expect(verdict(asked, { path })).toBe(holds ? 'deny' : 'allow');
  });
});

describe('tokens', () => {
  const token = {
    principal: 'iss/sub',
    audiences: ['a', 'b'],
    presenter: 'app',
    claims: { groups: ['dev', 'ops'], nested: { level: 7, deep: { ok: true } }, name: 'x' },
  };
  test.each<readonly [RequestAttribute, string, boolean]>([
    [{ kind: 'requestPrincipal' }, 'iss/sub', true],
    [{ kind: 'requestPrincipal' }, 'iss/*', true],
    [{ kind: 'requestPrincipal' }, 'other/*', false],
    [{ kind: 'audiences' }, 'b', true],
    [{ kind: 'audiences' }, 'c', false],
    [{ kind: 'presenter' }, 'app', true],
    [{ kind: 'claim', path: ['groups'] }, 'ops', true],
    [{ kind: 'claim', path: ['groups'] }, 'op', false],
    [{ kind: 'claim', path: ['nested', 'level'] }, '7', true],
    [{ kind: 'claim', path: ['nested', 'deep', 'ok'] }, 'true', true],
    [{ kind: 'claim', path: ['nested'] }, '*', false],
    [{ kind: 'claim', path: ['constructor', 'name'] }, '*', false],
    [{ kind: 'claim', path: ['__proto__'] }, '*', false],
  ])('%j is %s: %s', (attribute, value, holds) => {
    expect(verdict({ attribute, action: 'ALLOW', values: [value] }, { token })).toBe(
      holds ? 'allow' : 'deny',
    );
    expect(verdict({ attribute, action: 'DENY', notValues: [value] }, { token })).toBe(
      holds ? 'allow' : 'deny',
    );
    // Without a token there is no value: nothing is allowed by one, and no exception holds.
    expect(verdict({ attribute, action: 'ALLOW', values: [value] }, {})).toBe('deny');
    expect(verdict({ attribute, action: 'DENY', notValues: [value] }, {})).toBe('deny');
  });
});

describe('what only tells', () => {
  const attribute = { kind: 'method' } as const;
  const judged = (...policies: AuthorizationPolicy[]) =>
    authorize({ policies, missing: [], undecodable: [] }, facts());

  test('AUDIT is told where it matches, and decides nothing', () => {
    expect(judged(policyOf({ action: 'AUDIT', attribute, values: ['GET'] }))).toMatchObject({
      verdict: 'allow',
      audited: ['test/p'],
    });
    expect(judged(policyOf({ action: 'AUDIT', attribute, values: ['PUT'] }))).toMatchObject({
      verdict: 'allow',
      audited: [],
    });
  });

  test('dry run says what would have been, also beside a refusal', () => {
    const rehearsed = policyOf({ attribute, values: ['GET'], dryRun: true });
    expect(judged(rehearsed)).toMatchObject({
      verdict: 'allow',
      dryRun: [{ policy: 'test/p', would: 'deny' }],
    });
    const denying = { ...policyOf({ attribute, values: ['GET'] }), name: 'q' };
    expect(judged(rehearsed, denying)).toMatchObject({
      verdict: 'deny',
      denial: { policy: 'test/q' },
      dryRun: [{ policy: 'test/p', would: 'deny' }],
    });
    const audit = policyOf({ action: 'AUDIT', attribute, values: ['GET'], dryRun: true });
    expect(judged(audit)).toMatchObject({ verdict: 'allow', dryRun: [], audited: [] });
  });
});
