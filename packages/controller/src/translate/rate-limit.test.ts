import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeRateLimitPolicy } from '../kube/decode/configuration.ts';
import { compileRateLimitPolicy } from './rate-limit.ts';

const cluster = {
  clusterId: 'Kubernetes',
  trustDomain: trustDomain(),
  rootNamespace: 'istio-system',
  clusterDomain: 'cluster.local',
};
const targetRefs = [{ kind: 'Service', name: 'catalog' }];
const limit = { name: 'one', requests: 5, per: '1m' };

function compiled(spec: object, annotations: Record<string, string> = {}) {
  const object = { metadata: { name: 'p', namespace: 'shop', annotations }, spec };
  const { policy, problems } = compileRateLimitPolicy(
    decoded(decodeRateLimitPolicy, object),
    cluster,
  );
  return { policy, told: problems.map(({ field, message }) => `${field}: ${message}`) };
}

describe('a RateLimitPolicy', () => {
  test('compiles with its defaults and in full', () => {
    const full = {
      name: 'two',
      match: {
        paths: ['/api/*'],
        methods: ['GET'],
        headers: [{ name: 'X-Plan', values: ['free'] }],
        routes: ['shop/catalog/0'],
      },
      key: { type: 'Header', header: 'X-Key' },
      requests: 1,
      per: '1s',
      burst: 3,
    };
    const { policy, told } = compiled(
      { targetRefs, limits: [limit, full] },
      { 'istio.io/dry-run': 'true' },
    );
    expect(told).toEqual([]);
    expect(policy).toMatchObject({
      dryRun: true,
      targets: [{ kind: 'service', service: 'shop/catalog.shop.svc.cluster.local' }],
      limits: [
        {
          name: 'one',
          when: [],
          routes: [],
          key: { kind: 'none' },
          requests: 5,
          perMs: 60_000,
          burst: 5,
        },
        { name: 'two', key: { kind: 'header', name: 'x-key' }, perMs: 1000, burst: 3 },
      ],
    });
    expect(policy?.limits[1]?.when).toEqual([
      {
        kind: 'request',
        attribute: { kind: 'path' },
        values: [{ kind: 'prefix', value: '/api/' }],
        notValues: [],
      },
      {
        kind: 'request',
        attribute: { kind: 'method' },
        values: [{ kind: 'exact', value: 'GET' }],
        notValues: [],
      },
      {
        kind: 'request',
        attribute: { kind: 'header', name: 'x-plan' },
        values: [{ kind: 'exact', value: 'free' }],
        notValues: [],
      },
    ]);
  });

  test.each([
    ['no target', { limits: [limit] }, /spec.targetRefs: is empty/],
    ['no limit', { targetRefs }, /spec.limits: is empty/],
    [
      'another per',
      { targetRefs, limits: [{ ...limit, per: '2d' }] },
      /per: must be one of 1s, 1m, 1h/,
    ],
    [
      'a header without name',
      { targetRefs, limits: [{ ...limit, key: { type: 'Header' } }] },
      /must name a header/,
    ],
    ['no burst', { targetRefs, limits: [{ ...limit, burst: 0 }] }, /burst: must be 1 or more/],
    ['the same name twice', { targetRefs, limits: [limit, limit] }, /is there twice/],
    [
      'a star within',
      { targetRefs, limits: [{ ...limit, match: { paths: ['/a*b'] } }] },
      /left out/,
    ],
  ])('%s is told', (_what, spec, problem) => {
    expect(compiled(spec).told.join('\n')).toMatch(problem);
  });
});
