import type { Result } from '@ambit/api';
import { describe, expect, test } from '@jest/globals';

import { aToken } from '../../test/support.ts';
import type { KubeClient } from '../kube/client.ts';
import { KubeError } from '../kube/error.ts';
import type { AuthenticationFailed } from './authenticate.ts';
import { createAuthenticator } from './authenticate.ts';
import type { Caller } from './node-authorizer.ts';

const extra = {
  'authentication.kubernetes.io/pod-name': ['ztunnel-a'],
  'authentication.kubernetes.io/pod-uid': ['uid-a'],
};
const user = { username: 'system:serviceaccount:istio-system:ztunnel', extra };
const good = { authenticated: true, audiences: ['istio-ca'], user };
const nowMs = 1_000_000_000_000;
const token = aToken({ exp: nowMs / 1000 + 3600 });

interface Trial {
  readonly status?: unknown;
  readonly fails?: Error;
  readonly cacheMs?: number;
}

function authenticator({ status = good, fails, cacheMs = 5000 }: Trial = {}) {
  const clock = { nowMs };
  const api = { status, fails, calls: 0 };
  const client: KubeClient = {
    request: (request) => {
      api.calls += 1;
      expect(request.body).toMatchObject({ spec: { audiences: ['istio-ca'] } });
      return api.fails === undefined
        ? Promise.resolve({ status: api.status })
        : Promise.reject(api.fails);
    },
    lines: () => {
      throw new TypeError('not a watch');
    },
    close: () => undefined,
  };
  const authenticate = createAuthenticator({ client, nowMs: () => clock.nowMs, cacheMs });
  return { authenticate, clock, api };
}

const codeOf = (result: Result<Caller, AuthenticationFailed>) =>
  result.ok ? 'caller' : result.error.code;

describe('a token', () => {
  test('that is good names account and pod', async () => {
    expect(await authenticator().authenticate(token)).toEqual({
      ok: true,
      value: {
        namespace: 'istio-system',
        serviceAccount: 'ztunnel',
        podName: 'ztunnel-a',
        podUid: 'uid-a',
      },
    });
  });

  test.each<[string, unknown]>([
    ['that is refused', { authenticated: false, error: 'expired' }],
    ['with an empty answer', {}],
    ['without an answer', undefined],
    ['of another audience', { ...good, audiences: ['https://kubernetes.default.svc'] }],
    ['from an API server that knows no audiences', { authenticated: true, user }],
    ['of a user', { ...good, user: { ...user, username: 'admin' } }],
    ['of a node', { ...good, user: { ...user, username: 'system:node:node-a' } }],
    [
      'of an account without a name',
      { ...good, user: { ...user, username: 'system:serviceaccount:istio-system:' } },
    ],
    [
      'of an account with too many parts',
      { ...good, user: { ...user, username: 'system:serviceaccount:a:b:c' } },
    ],
    ['where authenticated is no boolean', { ...good, authenticated: 'true' }],
  ])('%s is refused', async (_name, status) => {
    const result = await authenticator({ status: status ?? null }).authenticate(token);
    expect(codeOf(result)).toBe('unauthenticated');
  });

  test.each([
    ['empty', ''],
    ['not of three parts', 'abc'],
    ['with a line feed', `${token}\nx`],
    ['longer than any', `${token}${'A'.repeat(17_000)}`],
  ])('%s never reaches the API server', async (_name, text) => {
    const { authenticate, api } = authenticator();
    expect(codeOf(await authenticate(text))).toBe('unauthenticated');
    expect(api.calls).toBe(0);
  });

  test('bound to no pod names none', async () => {
    const status = { ...good, user: { username: user.username } };
    expect(await authenticator({ status }).authenticate(token)).toMatchObject({
      ok: true,
      value: { podName: '', podUid: '' },
    });
  });

  test('that has ended by our clock is refused, whatever the API server says', async () => {
    expect(codeOf(await authenticator().authenticate(aToken({ exp: nowMs / 1000 - 1 })))).toBe(
      'unauthenticated',
    );
  });
});

describe('what is remembered', () => {
  test('a good answer, for seconds', async () => {
    const { authenticate, clock, api } = authenticator();
    await authenticate(token);
    await authenticate(token);
    expect(api.calls).toBe(1);
    clock.nowMs += 5001;
    await authenticate(token);
    expect(api.calls).toBe(2);
  });
  test('never past the end of the token', async () => {
    const { authenticate, clock, api } = authenticator({ cacheMs: 60_000 });
    const short = aToken({ exp: nowMs / 1000 + 2 });
    expect(codeOf(await authenticate(short))).toBe('caller');
    clock.nowMs += 2001;
    expect(codeOf(await authenticate(short))).toBe('unauthenticated');
    expect(api.calls).toBe(2);
  });
  test('no refusal', async () => {
    const { authenticate, api } = authenticator({ status: { authenticated: false } });
    await authenticate(token);
    api.status = good;
    expect(codeOf(await authenticate(token))).toBe('caller');
  });
  test('the API server away: unavailable, also for one that was good a while ago', async () => {
    const { authenticate, clock, api } = authenticator();
    expect(codeOf(await authenticate(token))).toBe('caller');
    api.fails = new KubeError('away', {});
    clock.nowMs += 5001;
    expect(codeOf(await authenticate(token))).toBe('unavailable');
  });
  test('one question for many that ask at once', async () => {
    const { authenticate, api } = authenticator();
    await Promise.all(Array.from({ length: 20 }, () => authenticate(token)));
    expect(api.calls).toBe(1);
  });
});
