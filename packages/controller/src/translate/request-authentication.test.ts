import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeRequestAuthentication } from '../kube/decode/configuration.ts';
import type { CompiledRequestAuthentication } from './request-authentication.ts';
import { compileRequestAuthentication } from './request-authentication.ts';

const target = { kind: 'Service', group: '', name: 'reviews' };

function compile(spec: object): CompiledRequestAuthentication {
  const object = { metadata: { name: 'jwt', namespace: 'shop' }, spec };
  return compileRequestAuthentication(decoded(decodeRequestAuthentication, object), {
    clusterId: 'c1',
    trustDomain: trustDomain(),
    rootNamespace: 'istio-system',
    clusterDomain: 'cluster.local',
  });
}

const rules = (...jwtRules: object[]) => compile({ targetRefs: [target], jwtRules });

const oneKey = '{"keys":[{"kty":"EC"}]}';

describe('a rule', () => {
  test('with every field', () => {
    const { authentication, problems } = rules({
      issuer: 'me',
      audiences: ['a'],
      jwksUri: 'https://keys.test/jwks',
      timeout: '2s',
      fromHeaders: [{ name: 'X-Token', prefix: 'T ' }],
      fromParams: ['jwt'],
      fromCookies: ['session'],
      forwardOriginalToken: true,
      outputPayloadToHeader: 'X-Payload',
      outputClaimToHeaders: [{ header: 'X-Sub', claim: 'a.sub' }],
      spaceDelimitedClaims: ['roles', 'scope'],
    });
    expect(problems).toEqual([]);
    expect(authentication).toEqual({
      name: 'jwt',
      namespace: 'shop',
      broken: false,
      targets: [{ kind: 'service', service: 'shop/reviews.shop.svc.cluster.local' }],
      rules: [
        {
          issuer: 'me',
          audiences: ['a'],
          keys: { kind: 'remote', uri: 'https://keys.test/jwks', timeoutMs: 2000 },
          from: [
            { kind: 'header', name: 'x-token', prefix: 'T ' },
            { kind: 'query', name: 'jwt' },
            { kind: 'cookie', name: 'session' },
          ],
          forwardOriginalToken: true,
          spaceDelimitedClaims: ['scope', 'permission', 'roles'],
          outputPayloadToHeader: 'x-payload',
          outputClaimsToHeaders: [{ header: 'x-sub', claim: ['a', 'sub'] }],
        },
      ],
    });
  });

  test('without an issuer takes any that the keys of its jwksUri verify', () => {
    expect(rules({ jwksUri: 'https://keys.test/' }).problems).toEqual([]);
    expect(rules({ jwks: oneKey }).problems).toMatchObject([{ field: 'spec.jwtRules[0].issuer' }]);
  });

  test.each(['{"keys":[]}', '{}', '7', '{"keys":[{"kty":"oct"}]}'])(
    'tells that nothing can be verified with %s',
    (jwks) => {
      expect(rules({ issuer: 'me', jwks }).problems).toMatchObject([
        {
          field: 'spec.jwtRules[0].jwks',
          message: expect.stringContaining('no RSA, EC') as unknown,
        },
      ]);
    },
  );

  test.each([
    ['no keys at all', { issuer: 'me' }, 'jwksUri'],
    ['keys of another scheme', { issuer: 'me', jwksUri: 'file:///etc/passwd' }, 'jwksUri'],
    ['keys that are no JSON', { issuer: 'me', jwks: '{' }, 'jwks'],
  ])('%s: refuses every token of its issuer, and says so', (_name, rule, field) => {
    const { authentication, problems } = rules(rule);
    expect(authentication?.rules[0]?.keys.kind).toBe('none');
    expect(problems).toMatchObject([{ field: `spec.jwtRules[0].${field}` }]);
  });

  test.each([
    ['a line break in a header', { outputPayloadToHeader: 'x\r\ny' }, 'outputPayloadToHeader'],
    ['a header that frames', { outputPayloadToHeader: 'Content-Length' }, 'outputPayloadToHeader'],
    [
      "the proxy's own",
      { outputClaimToHeaders: [{ header: 'x_forwarded_for', claim: 'a' }] },
      'outputClaimToHeaders[0].header',
    ],
    ['no claim', { outputClaimToHeaders: [{ header: 'x-a' }] }, 'outputClaimToHeaders[0].claim'],
    ['no header to look at', { fromHeaders: [{ name: 'a b' }] }, 'fromHeaders[0].name'],
    ['a length of time that is none', { timeout: 'soon' }, 'timeout'],
  ])('%s is told and left out', (_name, fields, field) => {
    const { authentication, problems } = rules({ issuer: 'me', jwks: oneKey, ...fields });
    expect(problems).toMatchObject([{ field: `spec.jwtRules[0].${field}` }]);
    expect(authentication?.rules[0]).toMatchObject({ outputClaimsToHeaders: [], from: [] });
    expect(authentication?.rules[0]).not.toHaveProperty('outputPayloadToHeader');
  });
});

describe('whom it is for', () => {
  test('one without targets verifies nothing, and says what to name', () => {
    const { authentication, problems } = compile({ jwtRules: [] });
    expect(authentication).toBeUndefined();
    expect(problems).toMatchObject([{ field: 'spec.targetRefs' }]);
  });

  test('one without rules is told', () => {
    const targetRefs = [{ kind: 'Service', name: 'reviews' }];
    for (const spec of [{ targetRefs }, { targetRefs, jwtRules: [] }])
      expect(compile(spec).problems).toMatchObject([
        { field: 'spec.jwtRules', message: expect.stringContaining('is empty'), admissible: true },
      ]);
  });

  test('one that cannot be read refuses everything for its targets', () => {
    const { authentication, problems } = compile({ targetRefs: [target], jwtRules: 'x' });
    expect(problems).toHaveLength(1);
    expect(authentication).toMatchObject({
      broken: true,
      targets: [{ kind: 'service', service: 'shop/reviews.shop.svc.cluster.local' }],
    });
  });
});

test('one with a selector is told that nobody heeds it, by the name of the field', () => {
  const { authentication, problems } = compile({ selector: { matchLabels: { app: 'web' } } });
  expect(authentication).toBeUndefined();
  expect(problems).toMatchObject([{ field: 'spec.selector', admissible: true }]);
  expect(compile({}).problems).toMatchObject([{ field: 'spec.targetRefs' }]);
});
