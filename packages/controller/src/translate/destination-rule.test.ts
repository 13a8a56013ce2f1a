import { describe, expect, test } from '@jest/globals';
import type { Port, TrafficPolicy, TrafficSettings } from '@ambit/api';

import { decoded } from '../../test/records.ts';
import { decodeDestinationRule } from '../kube/decode/configuration.ts';
import { compileDestinationRule, mergeDestinationRules } from './destination-rule.ts';

function rule(spec: object, name = 'dr', createdAt = '2026-01-01T00:00:00Z') {
  const metadata = { name, namespace: 'shop', creationTimestamp: createdAt };
  const object = { metadata, spec: { host: 'web', ...spec } };
  return compileDestinationRule(decoded(decodeDestinationRule, object), 'cluster.local');
}

/** As the waypoint chooses. */
function forPort(policy: TrafficPolicy | undefined, port: number): TrafficSettings | undefined {
  return policy?.ports.find((one) => one.port === port)?.settings ?? policy;
}

function brief(settings: TrafficSettings | undefined): string {
  if (settings === undefined) return 'none';
  const { balancing, pool, outlier, tls, proxyProtocol, retryBudget } = settings;
  return [
    balancing.kind,
    pool.maxRequests,
    outlier && 'outlier',
    tls?.mode,
    proxyProtocol,
    retryBudget && 'budget',
  ]
    .filter((one) => one !== undefined)
    .join(' ');
}

const random = { loadBalancer: { simple: 'RANDOM' } };
const robin = { loadBalancer: { simple: 'ROUND_ROBIN' } };
const simple = { tls: { mode: 'SIMPLE' } };
const disable = { tls: { mode: 'DISABLE' } };
const pool = { connectionPool: { http: { http2MaxRequests: 7 } } };
const outlierDetection = { outlierDetection: { consecutive5xxErrors: 2 } };
const every = { ...random, ...pool, ...outlierDetection };
const proxy = { proxyProtocol: { version: 'V2' }, retryBudget: { percent: 5 } };
const port = (number: number, settings: object) => ({
  portLevelSettings: [{ port: { number }, ...settings }],
});
const none = 'least-request';

describe('the policy of a subset on a port', () => {
  test.each<[of: object | undefined, subset: object | undefined, on80: string, on443: string]>([
    // The rule alone.
    [undefined, undefined, none, none],
    [{ ...every, ...simple }, undefined, 'random 7 outlier simple', 'random 7 outlier simple'],
    [{ ...every, ...port(443, simple) }, undefined, 'random 7 outlier', `${none} simple`],
    [{ ...simple, ...port(443, random) }, undefined, `${none} simple`, 'random'],
    // The subset alone.
    [undefined, every, 'random 7 outlier', 'random 7 outlier'],
    [undefined, { ...every, ...port(443, simple) }, 'random 7 outlier', `${none} simple`],
    // Both, of all ports: field by field.
    [simple, every, 'random 7 outlier simple', 'random 7 outlier simple'],
    [{ ...simple, ...random }, disable, 'random disable', 'random disable'],
    [{ ...simple, ...robin }, random, 'random simple', 'random simple'],
    [{ ...pool, ...outlierDetection }, {}, `${none} 7 outlier`, `${none} 7 outlier`],
    // The rule of the port: it is the base of what the subset says.
    [port(443, simple), {}, none, `${none} simple`],
    [port(443, simple), every, 'random 7 outlier', 'random 7 outlier simple'],
    [port(443, simple), disable, `${none} disable`, `${none} disable`],
    [port(443, robin), simple, `${none} simple`, 'round-robin simple'],
    [{ ...simple, ...port(443, robin) }, pool, `${none} 7 simple`, 'round-robin 7'],
    // The subset of the port: all that a port can say is the subset's, said or not.
    [simple, port(443, random), `${none} simple`, 'random'],
    [every, port(443, simple), 'random 7 outlier', `${none} simple`],
    [simple, { ...disable, ...port(443, random) }, `${none} disable`, 'random'],
    // Both of ports.
    [port(443, simple), port(80, random), 'random', `${none} simple`],
    [port(443, simple), port(443, random), none, 'random'],
    [port(443, simple), { ...random, ...port(80, pool) }, `${none} 7`, 'random simple'],
    [{ ...robin, ...port(443, simple) }, port(80, pool), `${none} 7`, `${none} simple`],
    // What cannot be said of a port is lost to one that speaks for itself, and stays below a subset that does.
    [{ ...proxy, ...port(443, simple) }, undefined, `${none} v2 budget`, `${none} simple`],
    [proxy, port(443, simple), `${none} v2 budget`, `${none} simple v2 budget`],
    [port(443, simple), proxy, `${none} v2 budget`, `${none} simple v2 budget`],
    [undefined, { ...proxy, ...port(443, simple) }, `${none} v2 budget`, `${none} simple`],
    [{ ...proxy, ...port(443, simple) }, port(443, random), `${none} v2 budget`, 'random'],
  ])('rule %j, subset %j: %s on 80, %s on 443', (of, subset, on80, on443) => {
    const compiled = rule({
      ...(of && { trafficPolicy: of }),
      subsets: [{ name: 'v1', ...(subset && { trafficPolicy: subset }) }],
    });
    const cluster = compiled.service && mergeDestinationRules(compiled.service, [compiled]);
    const policy = cluster?.subsets[0]?.policy;
    expect([brief(forPort(policy, 80)), brief(forPort(policy, 443))]).toEqual([on80, on443]);
    expect(compiled.subsets[0]?.policy).toEqual(policy);
  });

  test('takes what it does not say from the rule that speaks for all, whichever that is', () => {
    const subsets = [{ name: 'v1', trafficPolicy: random }];
    const older = rule({ subsets }, 'a', '2025-01-01T00:00:00Z');
    const newer = rule({ trafficPolicy: { ...simple, ...port(443, simple) } }, 'b');
    const cluster = older.service && mergeDestinationRules(older.service, [newer, older]);
    const policy = cluster?.subsets[0]?.policy;
    expect([brief(policy), brief(forPort(policy, 443))]).toEqual([
      'random simple',
      'random simple',
    ]);
    expect(Object.keys(cluster?.subsets[0] ?? {}).sort()).toEqual(['labels', 'name', 'policy']);
  });
});

test('what is not said of ports that speak for themselves is told', () => {
  const { problems } = rule({ trafficPolicy: { ...proxy, ...port(443, simple) } });
  expect(problems.map(({ field, message, admissible }) => [field, message, admissible])).toEqual(
    ['proxyProtocol', 'retryBudget'].map((name) => [
      `spec.trafficPolicy.${name}`,
      'does not hold for the ports of portLevelSettings, such as 443',
      true,
    ]),
  );
});

test('a port that is named twice is told, and the first one is used', () => {
  const of = (settings: object) => ({ port: { number: 80 }, ...settings });
  const { policy, problems } = rule({ trafficPolicy: { portLevelSettings: [of(random), of({})] } });
  expect(policy.ports.map(({ settings }) => brief(settings))).toEqual(['random']);
  expect(problems).toMatchObject([
    {
      field: 'spec.trafficPolicy.portLevelSettings[1].port.number',
      message: 'is the port of spec.trafficPolicy.portLevelSettings[0], which is used; merge them',
    },
  ]);
});

describe('what a DestinationRule says to no effect', () => {
  const told = (spec: object, resolves = true) => {
    const object = { metadata: { name: 'd', namespace: 'shop' }, spec };
    const { problems, policy } = compileDestinationRule(
      decoded(decodeDestinationRule, object),
      'cluster.local',
      undefined,
      () => (resolves ? ([80, 443] as Port[]) : undefined),
    );
    return { policy, told: problems.map((one) => [one.field, one.message, one.admissible]) };
  };

  test('settings of a port that the host does not have', () => {
    const trafficPolicy = {
      portLevelSettings: [{ port: { number: 80 } }, { port: { number: 81 } }],
    };
    const spec = { host: 'reviews', trafficPolicy, subsets: [{ name: 'v1', trafficPolicy }] };
    const why = 'the host has no port 81 (80, 443); these settings have no effect';
    expect(told(spec).told).toEqual([
      ['spec.trafficPolicy.portLevelSettings[1].port.number', why, true],
      ['spec.subsets[0].trafficPolicy.portLevelSettings[1].port.number', why, true],
    ]);
    const nowhere = '"reviews" is no Service of this cluster and no host of a ServiceEntry';
    expect(told(spec, false).told).toEqual([['spec.host', nowhere, true]]);
  });

  test('tls that says what to trust, and no mode', () => {
    const of = (tls: object) => told({ host: 'reviews', trafficPolicy: { tls } }).told;
    expect(of({ caCertificates: '/ca.pem', sni: 'a' })).toEqual([
      [
        'spec.trafficPolicy.tls.mode',
        expect.stringContaining(
          'means DISABLE: requests go out in plain text, and caCertificates, sni',
        ),
        true,
      ],
    ]);
    expect(of({ mode: 'DISABLE', sni: 'a' })).toMatchObject([
      [expect.anything(), expect.stringContaining('is DISABLE'), true],
    ]);
    expect(of({ mode: 'DISABLE' })).toEqual([]);
  });

  test('a connectTimeout that nobody could keep', () => {
    const spec = {
      host: 'reviews',
      trafficPolicy: { connectionPool: { tcp: { connectTimeout: '0s' } } },
    };
    const { policy, told: fields } = told(spec);
    expect(policy.pool.connectTimeoutMs).toBe(10_000);
    expect(fields).toMatchObject([
      [
        'spec.trafficPolicy.connectionPool.tcp.connectTimeout',
        expect.stringContaining('1ms'),
        undefined,
      ],
    ]);
  });
});
