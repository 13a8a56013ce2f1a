import type { IpAddress, Port, RateLimit, RateLimitPolicy } from '@ambit/api';
import { makeSpiffeIdentity, parseTrustDomain } from '@ambit/api';
import { describe, expect, test } from '@jest/globals';
import type { Limited } from './limiter.ts';
import { RateLimiter } from './limiter.ts';

function policy(limits: readonly Partial<RateLimit>[], dryRun = false): RateLimitPolicy {
  return {
    name: dryRun ? 'dry' : 'p',
    namespace: 'shop',
    targets: [],
    dryRun,
    limits: limits.map((one, index) => ({
      name: `l${index}`,
      when: [],
      routes: [],
      key: { kind: 'none' },
      requests: 2,
      perMs: 1000,
      burst: 2,
      ...one,
    })),
  };
}

function request(
  changes: { as?: string; key?: string; ip?: string; route?: string } = {},
): Limited {
  const trustDomain = parseTrustDomain('cluster.local');
  if (!trustDomain.ok) throw new TypeError('no trust domain');
  const identity = makeSpiffeIdentity(trustDomain.value, 'ns', changes.as ?? 'client');
  if (!identity.ok) throw new TypeError('no identity');
  return {
    route: changes.route ?? 'default',
    facts: {
      sourceIdentity: identity.value,
      sourceIp: (changes.ip ?? '10.0.0.1') as IpAddress,
      destinationIp: '10.0.0.2' as IpAddress,
      destinationPort: 80 as Port,
      request: {
        method: 'GET',
        authority: 'shop',
        path: '/',
        header: (name) => (name === 'x-key' && changes.key !== undefined ? [changes.key] : []),
      },
    },
  };
}

describe('a rate limiter', () => {
  test('lets a burst through, then the rate', () => {
    let now = 0;
    const limiter = new RateLimiter(() => now);
    const limits = [policy([{}])];
    const passes = () => limiter.take(limits, request()).over === undefined;
    expect([passes(), passes(), passes()]).toEqual([true, true, false]);
    now = 499;
    expect(passes()).toBe(false);
    now = 500;
    expect([passes(), passes()]).toEqual([true, false]);
    now = 1_000_000;
    expect([passes(), passes(), passes()]).toEqual([true, true, false]);
  });

  test('tells when to come again', () => {
    const limiter = new RateLimiter(() => 0);
    const limits = [policy([{ requests: 1, perMs: 60_000, burst: 1 }])];
    limiter.take(limits, request());
    expect(limiter.take(limits, request()).over?.fields).toEqual([
      ['retry-after', '60'],
      ['x-ratelimit-limit', '1'],
      ['x-ratelimit-remaining', '0'],
      ['x-ratelimit-reset', '60'],
    ]);
  });

  test.each([
    ['client identity', { kind: 'client-identity' }, { as: 'other' }],
    ['remote address', { kind: 'remote-address' }, { ip: '10.0.0.9' }],
    ['header', { kind: 'header', name: 'x-key' }, { key: 'k' }],
    ['long header', { kind: 'header', name: 'x-key' }, { key: 'k'.repeat(5000) }],
  ] as const)('counts by %s', (_what, key, other) => {
    const limiter = new RateLimiter(() => 0);
    const limits = [policy([{ key, burst: 1 }])];
    const passes = (as: Limited) => limiter.take(limits, as).over === undefined;
    expect([passes(request()), passes(request())]).toEqual([true, false]);
    expect([passes(request(other)), passes(request(other))]).toEqual([true, false]);
  });

  test('what one limit refuses is not counted by another', () => {
    const limiter = new RateLimiter(() => 0);
    const limits = [policy([{ burst: 5 }, { key: { kind: 'header', name: 'x-key' }, burst: 1 }])];
    const passes = (key: string) => limiter.take(limits, request({ key })).over === undefined;
    expect([passes('a'), passes('a'), passes('a'), passes('a'), passes('a')]).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
    expect(['b', 'c', 'd', 'e', 'f'].map(passes)).toEqual([true, true, true, true, false]);
  });

  test('a limit of a route is for that route', () => {
    const limiter = new RateLimiter(() => 0);
    const limits = [policy([{ routes: ['slow'], burst: 1 }])];
    const passes = (route: string) => limiter.take(limits, request({ route })).over === undefined;
    expect([passes('slow'), passes('slow'), passes('fast')]).toEqual([true, false, true]);
  });

  test('in dry run it tells and refuses nothing', () => {
    const limiter = new RateLimiter(() => 0);
    const limits = [policy([{ burst: 1 }], true)];
    expect(limiter.take(limits, request())).toEqual({ over: undefined, rehearsed: [] });
    expect(limiter.take(limits, request())).toMatchObject({
      over: undefined,
      rehearsed: [{ policy: { name: 'dry' }, limit: { name: 'l0' } }],
    });
  });

  test('a stranger who makes up keys fills no memory', () => {
    const limiter = new RateLimiter(() => 0);
    const limits = [policy([{ key: { kind: 'header', name: 'x-key' }, burst: 1 }])];
    limiter.take(limits, request({ key: 'first' }));
    for (let index = 0; index < 10_000; index += 1)
      limiter.take(limits, request({ key: `k${index}` }));
    // The first was forgotten, which only says that it may begin anew.
    expect(limiter.take(limits, request({ key: 'first' })).over).toBeUndefined();
    expect(limiter.take(limits, request({ key: 'k9999' })).over).toBeDefined();
  });
});
