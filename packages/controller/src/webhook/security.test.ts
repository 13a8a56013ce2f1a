import { beforeEach, describe, expect, test } from '@jest/globals';

import type { WebhookWorld } from '../../test/webhook-world.ts';
import { rootNamespace, webhookWorld } from '../../test/webhook-world.ts';

let world: WebhookWorld;

const service = (name: string, ...ports: string[]): object => ({
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: {
    clusterIPs: ['10.96.0.1'],
    ports: ports.map((one, index) => ({ name: one, port: 80 + index })),
  },
});

beforeEach(() => {
  world = webhookWorld();
  world.put(service('web', 'http', 'tcp-a'));
  world.put(service('db', 'tcp-a', 'tls-b'));
});

describe.each([
  ['AuthorizationPolicy', { action: 'DENY', rules: [{}] }],
  ['PeerAuthentication', { mtls: { mode: 'STRICT' } }],
])('%s with a selector', (kind, rest) => {
  const selecting = (labels: object, namespace = 'shop'): readonly string[] => {
    const spec = { selector: { matchLabels: labels }, ...rest };
    return world.warnings({ kind, metadata: { name: 'one', namespace }, spec });
  };
  const nobody = [
    'spec.selector.matchLabels: selects no Pod and no WorkloadEntry of namespace shop now, so it holds for nobody until there is one with these labels',
  ];
  const pod = (namespace: string, labels: object, phase = 'Running'): void =>
    world.put({ kind: 'Pod', metadata: { name: 'p', namespace, labels }, status: { phase } });

  test('that selects a pod of the namespace, or none', () => {
    expect(selecting({ app: 'web' })).toEqual(nobody);
    pod('other', { app: 'web' });
    expect(selecting({ app: 'web' })).toEqual(nobody);
    pod('shop', { app: 'web' }, 'Succeeded');
    expect(selecting({ app: 'web' })).toEqual(nobody);
    pod('shop', { app: 'web', version: 'v1' });
    expect(selecting({ app: 'web' })).toEqual([]);
    expect(selecting({ app: 'web', version: 'v2' })).toEqual(nobody);
  });

  test('that selects a WorkloadEntry, by either kind of its labels', () => {
    const metadata = { name: 'vm', namespace: 'shop', labels: { tier: 'back' } };
    const spec = { address: '192.0.2.1', labels: { app: 'vm' } };
    world.put({ kind: 'WorkloadEntry', metadata, spec });
    expect(selecting({ app: 'vm' })).toEqual([]);
    expect(selecting({ tier: 'back' })).toEqual([]);
    expect(selecting({ app: 'web' })).toEqual(nobody);
  });

  test('that is empty, or for all namespaces', () => {
    expect(selecting({})).toEqual([]);
    expect(selecting({ app: 'web' }, rootNamespace)).toEqual([]);
  });
});

describe('PeerAuthentication', () => {
  const strict = (name: string, created: object = {}): object => ({
    kind: 'PeerAuthentication',
    metadata: { name, namespace: 'shop', ...created },
    spec: { mtls: { mode: 'STRICT' } },
  });

  test('beside an older one of the namespace', () => {
    const age = { creationTimestamp: '2024-01-01T00:00:00Z' };
    expect(world.warnings(strict('one'))).toEqual([]);
    world.put(strict('zero', age));
    expect(world.warnings(strict('one'))).toEqual([
      'spec: zero is older and alone holds for the whole namespace; merge them',
    ]);
    expect(world.warnings(strict('zero', age))).toEqual([]);
    const key = 'shop/one';
    world.put(strict('one', { creationTimestamp: '2025-01-01T00:00:00Z' }));
    world.collections.flush();
    // The status has the same.
    expect(world.collections.judged.peerAuthentications.get(key)?.problems).toMatchObject([
      { field: 'spec', reason: 'NoEffect' },
    ]);
  });
});

describe('what holds for targets', () => {
  const targeted = (kind: string, name: string, spec: object): readonly string[] =>
    world.warnings({
      kind,
      metadata: { name: 'one', namespace: 'shop' },
      spec: { targetRefs: [{ kind: 'Service', name }], ...spec },
    });
  const of: readonly (readonly [kind: string, spec: object])[] = [
    ['AuthorizationPolicy', { action: 'DENY', rules: [{}] }],
    ['RequestAuthentication', { jwtRules: [{ issuer: 'a', jwks: '{"keys":[{"kty":"EC"}]}' }] }],
    ['Telemetry', { accessLogging: [{}] }],
    ['RateLimitPolicy', { limits: [{ name: 'a', requests: 1, per: '1s' }] }],
  ];

  test.each(of)('%s names a Service that is not there', (kind, spec) => {
    expect(targeted(kind, 'web', spec)).toEqual([]);
    expect(targeted(kind, 'wbe', spec)).toEqual([
      'spec.targetRefs[0].name: there is no Service shop/wbe',
    ]);
  });

  test.each(of)('%s names one where no request can be seen', (kind, spec) => {
    const blind =
      'spec.targetRefs[0].name: it does not hold where no request can be seen: port 80 of Service shop/db, which is declared as TCP; port 81 of Service shop/db, which is declared as TLS; name the port http';
    const isOfRequests = kind === 'RequestAuthentication' || kind === 'RateLimitPolicy';
    expect(targeted(kind, 'db', spec)).toEqual(isOfRequests ? [blind] : []);
  });
});

test('a selector with what only a waypoint sees is told beside what nothing can have', () => {
  world.put({ kind: 'Pod', metadata: { name: 'p', namespace: 'shop', labels: { app: 'web' } } });
  const told = world.warnings({
    kind: 'AuthorizationPolicy',
    metadata: { name: 'one', namespace: 'shop' },
    spec: {
      selector: { matchLabels: { app: 'web' } },
      action: 'DENY',
      rules: [{ to: [{ operation: { methods: ['get'] } }] }],
    },
  });
  expect(told).toEqual([
    expect.stringContaining('"get" is no method; write GET'),
    expect.stringContaining('ztunnel sees no HTTP attributes'),
  ]);
});
