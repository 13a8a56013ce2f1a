import { describe, expect, test } from '@jest/globals';
import { builtinResources } from './builtins.ts';
import { Registry } from './registry.ts';
import { Storage } from './storage.ts';
import { ObjectStore } from './store.ts';
import { createTokens, type Tokens } from './tokens.ts';

const accounts = { group: '', resource: 'serviceaccounts' };

function setUp(): { store: ObjectStore; tokens: Tokens; clock: { nowMs: number } } {
  const clock = { nowMs: 1_700_000_000_000 };
  const store = new ObjectStore(
    new Storage(() => undefined),
    new Registry(builtinResources),
    () => clock.nowMs,
  );
  store.create(
    { group: '', resource: 'namespaces' },
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
  );
  store.create(accounts, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'web', namespace: 'shop' },
  });
  const tokens = createTokens({
    store,
    issuer: 'https://issuer',
    adminToken: 'secret',
    now: () => clock.nowMs,
  });
  return { store, tokens, clock };
}

const web = { namespace: 'shop', serviceAccount: 'web' };

function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')) as Record<
    string,
    unknown
  >;
}

describe('service-account tokens', () => {
  test('carry the claims of the real ones and verify until they expire', () => {
    const { tokens, clock } = setUp();
    const { token, expiresAtMs } = tokens.mint({
      ...web,
      audiences: ['istio-ca'],
      expirationSeconds: 600,
    });
    expect(expiresAtMs).toBe(clock.nowMs + 600_000);
    expect(claimsOf(token)).toMatchObject({
      iss: 'https://issuer',
      aud: ['istio-ca'],
      sub: 'system:serviceaccount:shop:web',
      'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'web' } },
    });
    expect(tokens.verify(token, ['istio-ca', 'other'])).toMatchObject({
      ok: true,
      audiences: ['istio-ca'],
      user: {
        groups: ['system:serviceaccounts', 'system:serviceaccounts:shop', 'system:authenticated'],
      },
    });
    clock.nowMs += 600_000;
    expect(tokens.verify(token, ['istio-ca'])).toEqual({ ok: false, why: 'the token has expired' });
  });

  test('are refused for another audience, changed, of another key, or of an account made anew', () => {
    const { tokens, store } = setUp();
    const { token } = tokens.mint(web);
    expect(tokens.verify(token, ['istio-ca']).ok).toBe(false);
    const [head = '', , signature = ''] = token.split('.');
    const forged = Buffer.from(JSON.stringify({ ...claimsOf(token), sub: 'x' })).toString(
      'base64url',
    );
    expect(tokens.verify(`${head}.${forged}.${signature}`).ok).toBe(false);
    expect(tokens.verify(setUp().tokens.mint(web).token).ok).toBe(false);
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    expect(tokens.verify(`${none}.${token.split('.')[1] ?? ''}.`).ok).toBe(false);
    store.delete(accounts, 'shop', 'web');
    store.create(accounts, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'web', namespace: 'shop' },
    });
    expect(tokens.verify(token)).toEqual({
      ok: false,
      why: 'the service account has been deleted',
    });
  });

  test('are not made for less than ten minutes, an unknown account or a pod of another', () => {
    const { tokens, store } = setUp();
    expect(() => tokens.mint({ ...web, expirationSeconds: 60 })).toThrow('less than 10 minutes');
    expect(() => tokens.mint({ namespace: 'shop', serviceAccount: 'x' })).toThrow(
      'serviceaccounts "x" not found',
    );
    store.create(
      { group: '', resource: 'pods' },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'p', namespace: 'shop' },
        spec: { containers: [{ name: 'c' }] },
      },
    );
    expect(() => tokens.mint({ ...web, boundPod: { name: 'p' } })).toThrow(
      'to pod running as "default"',
    );
  });

  test('survive with their key, which the key set publishes', () => {
    const { tokens, store, clock } = setUp();
    const { token } = tokens.mint(web);
    const again = createTokens({
      store,
      issuer: 'https://issuer',
      adminToken: 'x',
      signingKey: tokens.privateKeyPem(),
      now: () => clock.nowMs,
    });
    expect(again.verify(token).ok).toBe(true);
    expect(again.jwks()).toEqual(tokens.jwks());
    expect(tokens.jwks()).toMatchObject({ keys: [{ kty: 'RSA', alg: 'RS256', use: 'sig' }] });
    expect(JSON.stringify(tokens.jwks())).not.toContain('"d"');
  });
});

test("the administrator's token is for the API alone", () => {
  const { tokens } = setUp();
  expect(tokens.verify('secret')).toMatchObject({
    ok: true,
    user: { groups: ['system:masters', 'system:authenticated'] },
  });
  expect(tokens.verify('secret', ['istio-ca']).ok).toBe(false);
  expect(tokens.verify('secre').ok).toBe(false);
});
