import { describe, expect, test } from '@jest/globals';
import type { ServiceKey } from '@ambit/api';
import { defaultTraffic, healthCheckAnnotation } from '@ambit/api';
import { healthCheckCondition } from '../status/health-check.ts';
import { parseHealthCheck, withHealthCheck } from './health-check.ts';

const service = 'shop/cart.shop.svc.cluster.local' as ServiceKey;

test('all of it, and what is taken where nothing is said', () => {
  const all =
    'path=/healthz?full=1, port=8080, interval=10s, timeout=500ms, unhealthy=5, healthy=1';
  expect(parseHealthCheck(all)).toEqual({
    ok: true,
    value: {
      path: '/healthz?full=1',
      port: 8080,
      intervalMs: 10_000,
      timeoutMs: 500,
      unhealthyThreshold: 5,
      healthyThreshold: 1,
    },
  });
  expect(parseHealthCheck('path=/')).toEqual({
    ok: true,
    value: {
      path: '/',
      intervalMs: 5_000,
      timeoutMs: 1_000,
      unhealthyThreshold: 3,
      healthyThreshold: 2,
    },
  });
});

test.each([
  ['', 'is none of path, port'],
  ['path', 'is none of path, port'],
  ['interval=1s', 'needs a path'],
  ['path=healthz', 'path must be a path'],
  ['path=/a b', 'path must be a path'],
  ['path=/a\r\nHost: x', 'path must be a path'],
  ['path=/,path=/a', 'path is there twice'],
  ['path=/,often=yes', '"often=yes" is none of'],
  ['path=/,interval=1ms', 'interval must be a length of time'],
  ['path=/,interval=soon', 'interval must be a length of time'],
  ['path=/,timeout=2h', 'timeout must be a length of time'],
  ['path=/,unhealthy=0', 'unhealthy must be a number'],
  ['path=/,healthy=1e2', 'healthy must be a number'],
  ['path=/,port=70000', 'port must be a port'],
])('%j is refused', (text, why) => {
  const parsed = parseHealthCheck(text);
  expect(parsed.ok ? '' : parsed.error).toContain(why);
});

describe('the cluster', () => {
  const annotated = (text: string) => new Map([[healthCheckAnnotation, text]]);

  test('has the check, with or without a DestinationRule', () => {
    const made = withHealthCheck(undefined, service, annotated('path=/up'));
    expect(made).toMatchObject({ service, policy: defaultTraffic, healthCheck: { path: '/up' } });
    const rule = { service, policy: defaultTraffic, subsets: [] };
    expect(withHealthCheck(rule, service, annotated('path=/up'))).toEqual({
      ...rule,
      healthCheck: made?.healthCheck,
    });
  });

  test('is as it was without the annotation and with one that cannot be read', () => {
    expect(withHealthCheck(undefined, service, new Map())).toBeUndefined();
    expect(withHealthCheck(undefined, service, annotated('often'))).toBeUndefined();
  });
});

test('the status says what became of the annotation', () => {
  expect(healthCheckCondition('path=/up')).toMatchObject({ status: 'True', reason: 'Accepted' });
  const bad = healthCheckCondition('path=up');
  expect(bad).toMatchObject({ status: 'False', reason: 'Invalid' });
  expect(bad.message).toContain('ambit.dev/health-check: path must be a path');
  expect(healthCheckCondition(undefined)).toMatchObject({ reason: 'NotRequested' });
});
