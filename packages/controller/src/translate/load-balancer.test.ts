import { describe, expect, test } from '@jest/globals';
import { compileLoadBalancer } from './load-balancer.ts';
import { compileOutlierDetection } from './outlier-detection.ts';

type Spec = Parameters<typeof compileLoadBalancer>[0];

function compile(spec: Spec): { compiled: ReturnType<typeof compileLoadBalancer>; said: string[] } {
  const said: string[] = [];
  const compiled = compileLoadBalancer(spec, 'spec.trafficPolicy', (field, message) => {
    said.push(`${field.replace('spec.trafficPolicy.loadBalancer.', '')}: ${message}`);
  });
  return { compiled, said };
}

test.each([
  ['ROUND_ROBIN', 'round-robin'],
  ['RANDOM', 'random'],
  ['PASSTHROUGH', 'passthrough'],
  ['LEAST_REQUEST', 'least-request'],
  ['LEAST_CONN', 'least-request'],
  ['UNSPECIFIED', 'least-request'],
] as const)('%s is %s', (simple, kind) => {
  const { compiled, said } = compile({ simple });
  expect([compiled.balancing.kind, said]).toEqual([kind, []]);
});

describe('consistentHash', () => {
  const hash = (spec: NonNullable<Spec['consistentHash']>) => compile({ consistentHash: spec });

  test.each([
    [{ httpHeaderName: 'X-User' }, { kind: 'header', name: 'x-user' }],
    [{ httpQueryParameterName: 'User' }, { kind: 'query', name: 'User' }],
    [{ useSourceIp: true }, { kind: 'source-ip' }],
    [
      {
        httpCookie: {
          name: 'user',
          path: '/shop',
          ttl: '90s',
          attributes: [{ name: 'SameSite', value: 'Strict' }, { name: 'Secure' }],
        },
      },
      {
        kind: 'cookie',
        name: 'user',
        path: '/shop',
        ttlSeconds: 90,
        attributes: [
          ['SameSite', 'Strict'],
          ['Secure', ''],
        ],
      },
    ],
    [
      { httpCookie: { name: 'user', ttl: '0s' } },
      { kind: 'cookie', name: 'user', path: '/', ttlSeconds: 0 },
    ],
  ])('%j', (spec, key) => {
    const { compiled, said } = hash(spec);
    expect(said).toEqual([]);
    expect(compiled.balancing).toEqual({ kind: 'ring-hash', key, minimumRingSize: 1024 });
  });

  test('sizes of both tables', () => {
    const key = { kind: 'source-ip' } as const;
    const ring = hash({ useSourceIp: true, ringHash: { minimumRingSize: 64 } });
    expect(ring.compiled.balancing).toEqual({ kind: 'ring-hash', key, minimumRingSize: 64 });
    const old = hash({ useSourceIp: true, minimumRingSize: 128 });
    expect(old.compiled.balancing).toMatchObject({ minimumRingSize: 128 });
    const maglev = hash({ useSourceIp: true, maglev: { tableSize: 997 } });
    expect(maglev.compiled.balancing).toEqual({ kind: 'maglev', key, tableSize: 997 });
    const usual = hash({ useSourceIp: true, maglev: {} });
    expect(usual.compiled.balancing).toMatchObject({ tableSize: 65_537 });
  });

  test.each([
    [{}, 'consistentHash: needs one of'],
    [{ useSourceIp: true, httpHeaderName: 'a' }, 'consistentHash: takes only one of'],
    [
      { useSourceIp: true, maglev: { tableSize: 1000 } },
      'consistentHash.maglev.tableSize: must be a prime',
    ],
    [{ useSourceIp: true, maglev: {}, ringHash: {} }, 'consistentHash.maglev: does not go with'],
    [
      { useSourceIp: true, ringHash: { minimumRingSize: 9_000_000 } },
      'consistentHash.ringHash.minimumRingSize: must be from 0',
    ],
    [{ httpCookie: { name: 'a;b' } }, 'consistentHash.httpCookie.name: must be'],
    [{ httpCookie: { name: 'a', ttl: 'soon' } }, 'consistentHash.httpCookie.ttl: "soon" is no'],
    [{ httpCookie: { name: 'a', path: '/;x' } }, 'consistentHash.httpCookie.path: must be'],
    [
      { httpCookie: { name: 'a', attributes: [{ name: 'x', value: 'y; Domain=z' }] } },
      'consistentHash.httpCookie.attributes[0]: must be',
    ],
  ])('%j is told', (spec, problem) => {
    expect(hash(spec).said[0]).toContain(problem);
  });
});

describe('warmup', () => {
  test('with its defaults, by either name', () => {
    const warmup = { durationMs: 30_000, minimumPercent: 10, aggression: 1 };
    expect(compile({ warmup: { duration: '30s' } }).compiled.warmup).toEqual(warmup);
    expect(compile({ warmupDurationSecs: '30s' }).compiled.warmup).toEqual(warmup);
    const own = { duration: '1m', minimumPercent: 20, aggression: 2 };
    expect(compile({ warmup: own, simple: 'ROUND_ROBIN' }).compiled.warmup).toEqual({
      durationMs: 60_000,
      minimumPercent: 20,
      aggression: 2,
    });
  });

  test.each([
    [{ warmup: {} }, 'warmup.duration: must be a length'],
    [{ warmupDurationSecs: '0s' }, 'warmupDurationSecs: must be a length'],
    [{ simple: 'RANDOM', warmup: { duration: '1s' } }, 'warmup: is for ROUND_ROBIN'],
    [{ warmup: { duration: '1s', minimumPercent: 101 } }, 'warmup.minimumPercent: must be'],
    [{ warmup: { duration: '1s', aggression: 0.5 } }, 'warmup.aggression: must be'],
  ] as const)('%j is told', (spec, problem) => {
    expect(compile(spec).said[0]).toContain(problem);
  });
});

describe('localityLbSetting', () => {
  test('shares, failover and labels', () => {
    const distribute = [{ from: 'eu/1/*', to: { 'eu/1/*': 80, 'eu/2/*': 20 } }];
    expect(compile({ localityLbSetting: { distribute } }).compiled.locality.distribute).toEqual([
      {
        from: 'eu/1/*',
        to: [
          ['eu/1/*', 80],
          ['eu/2/*', 20],
        ],
      },
    ]);
    const { compiled, said } = compile({
      localityLbSetting: { failover: [{ from: 'eu', to: 'us' }], failoverPriority: ['version'] },
    });
    expect(said).toEqual([]);
    expect(compiled.locality).toEqual({
      enabled: true,
      distribute: [],
      failover: [{ from: 'eu', to: 'us' }],
      failoverPriority: ['version'],
    });
    expect(compile({ localityLbSetting: { enabled: false } }).compiled.locality.enabled).toBe(
      false,
    );
  });

  test.each([
    [
      { distribute: [{ from: 'a', to: { b: 50 } }] },
      'distribute[0].to: weights must sum to 100, not 50',
    ],
    [{ distribute: [{ to: { b: 100 } }] }, 'distribute[0].from: must be'],
    [{ failover: [{ from: 'a', to: 'a' }] }, 'failover[0]: must name two different regions'],
    [{ failover: [{ from: 'a/b', to: 'c' }] }, 'failover[0]: must name two different regions'],
    [
      {
        failover: [{ from: 'a', to: 'b' }],
        failoverPriority: ['topology.kubernetes.io/region'],
      },
      'failoverPriority: topology.kubernetes.io/region does not go with failover',
    ],
    [
      { distribute: [{ from: 'a', to: { b: 100 } }], failoverPriority: ['x'] },
      'distribute: does not go with',
    ],
  ])('%j is told', (localityLbSetting, problem) => {
    expect(compile({ localityLbSetting }).said[0]).toContain(problem);
  });
});

describe('outlierDetection', () => {
  const outlier = (spec: Parameters<typeof compileOutlierDetection>[0]) => {
    const said: string[] = [];
    const compiled = compileOutlierDetection(spec, 'p', (field) => void said.push(field));
    return { compiled, said };
  };

  test("Istio's defaults", () => {
    expect(outlier({})).toEqual({
      said: [],
      compiled: {
        consecutive5xx: 5,
        consecutiveGatewayErrors: 0,
        consecutiveLocalOrigin: 5,
        splitExternalLocalOrigin: false,
        intervalMs: 10_000,
        baseEjectionMs: 30_000,
        maxEjectionPercent: 10,
        minHealthPercent: 0,
      },
    });
  });

  test('what cannot be is told and left at the default', () => {
    const { compiled, said } = outlier({
      interval: 'often',
      baseEjectionTime: '0s',
      maxEjectionPercent: 120,
      consecutive5xxErrors: -1,
    });
    expect(said.sort()).toEqual([
      'p.outlierDetection.baseEjectionTime',
      'p.outlierDetection.consecutive5xxErrors',
      'p.outlierDetection.interval',
      'p.outlierDetection.maxEjectionPercent',
    ]);
    expect(compiled).toMatchObject({
      intervalMs: 10_000,
      maxEjectionPercent: 10,
      consecutive5xx: 5,
    });
  });
});
