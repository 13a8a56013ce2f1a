import { describe, expect, test } from '@jest/globals';
import type {
  AuthorizationPolicy,
  Service,
  SocketAddress,
  SpiffeIdentity,
  Workload,
} from '@ambit/api';
import { parseSocketAddress, parseSpiffeIdentity } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { createMeshState } from '@ambit/core';
import { aPolicy, aService, aWorkload, upserts } from '@ambit/testkit';
import { planPlaintext, planTunnel } from './inbound/plan.ts';
import { planOutbound } from './outbound/plan.ts';

const svcKey = 'test/svc.test.svc.cluster.local';

function stateOf(nouns: {
  workloads?: Workload[];
  services?: Service[];
  policies?: AuthorizationPolicy[];
}): MeshState {
  const { state, updater } = createMeshState();
  updater.apply({ upserts: upserts(nouns), undecodable: [], removals: [], complete: true });
  return state;
}

function at(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

function identity(uri: string): SpiffeIdentity {
  const parsed = parseSpiffeIdentity(uri);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

const source = aWorkload({
  name: 'source',
  addresses: ['10.0.0.9'],
  locality: { region: 'r', zone: 'z1', subzone: '' },
});
const target = aWorkload({ name: 'target', addresses: ['10.0.0.2', 'fd00::2'] });
const first = (): number => 0;

function endpoint(
  name: string,
  ip: string,
  extra: Record<string, unknown> = {},
  ready = true,
): Workload {
  return aWorkload({
    name,
    addresses: [ip],
    services: [{ service: svcKey, ready, ports: [{ servicePort: 80, targetPort: 8080 }] }],
    ...extra,
  });
}

describe('an outbound connection', () => {
  test('to a captured pod goes by HBONE, to that pod identity and no other', () => {
    const plan = planOutbound(
      stateOf({ workloads: [source, target] }),
      source,
      at('10.0.0.2:8080'),
      first,
    );
    expect(plan).toMatchObject({
      kind: 'hbone',
      nextHop: { ip: '10.0.0.2', port: 15008 },
      authority: { ip: '10.0.0.2', port: 8080 },
    });
    expect(plan.kind === 'hbone' && [...plan.expectedIdentities]).toEqual([
      'spiffe://cluster.local/ns/test/sa/target',
    ]);
  });

  test('passes over an endpoint that does not answer while there are others, however near it is', () => {
    const balancing = { mode: 'failover', scopes: ['node'] };
    const state = stateOf({
      workloads: [
        source,
        endpoint('near', '10.0.0.2', { node: source.node }),
        endpoint('far', '10.0.0.3', { node: 'elsewhere' }),
      ],
      services: [aService({ name: 'svc', vips: ['10.96.0.1'], loadBalancing: balancing })],
    });
    const hopOf = (...gone: string[]): unknown =>
      planOutbound(state, source, at('10.96.0.1:80'), first, (hop) =>
        gone.includes(`${hop.ip}:${hop.port}`),
      );
    expect(hopOf()).toMatchObject({ nextHop: { ip: '10.0.0.2' } });
    expect(hopOf('10.0.0.2:15008')).toMatchObject({ nextHop: { ip: '10.0.0.3' } });
    expect(hopOf('10.0.0.2:15008', '10.0.0.3:15008')).toMatchObject({
      nextHop: { ip: '10.0.0.2' },
    });
  });

  test.each([
    ['an unknown address', '203.0.113.1:443', 'unknown-destination'],
    ['a pod outside the mesh', '10.0.0.3:80', 'not-in-mesh'],
    ['itself', '10.0.0.9:80', 'self'],
    ['a port where mutual TLS is off', '10.0.0.4:9000', 'mtls-disabled'],
  ])('to %s passes as plain TCP', (_, to, why) => {
    const outside = aWorkload({ name: 'outside', addresses: ['10.0.0.3'], tunnel: 'none' });
    const off = aWorkload({
      name: 'off',
      addresses: ['10.0.0.4'],
      mtls: { mode: 'STRICT', ports: [{ port: 9000, mode: 'DISABLE' }] },
    });
    const state = stateOf({ workloads: [source, outside, off] });
    expect(planOutbound(state, source, at(to), first)).toMatchObject({ kind: 'passthrough', why });
  });

  test.each([15001, 15006, 15008, 15000, 15020, 15021, 15053])(
    'to port %d of a peer is refused',
    (port) => {
      const state = stateOf({ workloads: [source, target] });
      expect(planOutbound(state, source, at(`10.0.0.2:${port}`), first)).toMatchObject({
        kind: 'refuse',
        why: 'loop',
      });
      expect(planOutbound(state, source, at(`10.0.0.9:${port}`), first)).toMatchObject({
        kind: 'refuse',
        why: 'loop',
      });
    },
  );

  test('to a mesh port reached through a service is refused too', () => {
    const trap = endpoint('trap', '10.0.0.5', {
      services: [{ service: svcKey, ready: true, ports: [{ servicePort: 80, targetPort: 15008 }] }],
    });
    const state = stateOf({ workloads: [source, trap], services: [aService()] });
    expect(planOutbound(state, source, at('10.96.0.1:80'), first)).toMatchObject({
      kind: 'refuse',
      why: 'loop',
    });
  });

  test('to a service reaches every ready endpoint at its target port, and no other', () => {
    const workloads = [
      source,
      endpoint('a', '10.0.1.1'),
      endpoint('b', '10.0.1.2'),
      endpoint('c', '10.0.1.3', {}, false),
    ];
    const state = stateOf({ workloads, services: [aService()] });
    const seen = [0, 0.49, 0.51, 0.99].map((random) =>
      planOutbound(state, source, at('10.96.0.1:80'), () => random),
    );
    expect(
      seen.map(
        (plan) =>
          plan.kind === 'hbone' && `${plan.actualDestination.ip}:${plan.actualDestination.port}`,
      ),
    ).toEqual(['10.0.1.1:8080', '10.0.1.1:8080', '10.0.1.2:8080', '10.0.1.2:8080']);
  });

  test('to a service without a healthy endpoint, or without that port, is refused', () => {
    const state = stateOf({
      workloads: [source, endpoint('c', '10.0.1.3', {}, false)],
      services: [aService()],
    });
    expect(planOutbound(state, source, at('10.96.0.1:80'), first)).toMatchObject({
      kind: 'refuse',
      why: 'no-healthy-endpoint',
    });
    expect(planOutbound(state, source, at('10.96.0.1:81'), first)).toMatchObject({
      kind: 'refuse',
      why: 'no-such-port',
    });
  });

  test('prefers endpoints near the source, and falls back only where that is allowed', () => {
    const near = endpoint('near', '10.0.1.1', {
      locality: { region: 'r', zone: 'z1', subzone: '' },
    });
    const far = endpoint('far', '10.0.1.2', { locality: { region: 'r', zone: 'z2', subzone: '' } });
    const scopes = ['network', 'region', 'zone'];
    const balanced = (mode: string, workloads: Workload[]) =>
      planOutbound(
        stateOf({
          workloads: [source, ...workloads],
          services: [aService({ loadBalancing: { mode, scopes } })],
        }),
        source,
        at('10.96.0.1:80'),
        () => 0.99,
      );
    expect(balanced('failover', [near, far])).toMatchObject({ destination: { name: 'near' } });
    expect(balanced('failover', [far])).toMatchObject({ destination: { name: 'far' } });
    expect(balanced('strict', [far])).toMatchObject({ kind: 'refuse', why: 'no-healthy-endpoint' });
  });

  test('a bound waypoint that is missing denies; one that is there is the next hop', () => {
    const bound = aService({ waypoint: { kind: 'address', ip: '10.0.3.1', port: 15008 } });
    const endpoints = [source, endpoint('a', '10.0.1.1')];
    const missing = stateOf({ workloads: endpoints, services: [bound] });
    expect(planOutbound(missing, source, at('10.96.0.1:80'), first)).toMatchObject({
      kind: 'refuse',
      why: 'waypoint-not-ready',
    });
    const waypoint = aWorkload({ name: 'waypoint', addresses: ['10.0.3.1'] });
    const there = stateOf({ workloads: [...endpoints, waypoint], services: [bound] });
    expect(planOutbound(there, source, at('10.96.0.1:80'), first)).toMatchObject({
      kind: 'hbone',
      nextHop: { ip: '10.0.3.1', port: 15008 },
      authority: { ip: '10.96.0.1', port: 80 },
    });
  });
});

describe('a CONNECT', () => {
  const peer = identity('spiffe://cluster.local/ns/test/sa/source');
  const ask = (authority: string, policies: AuthorizationPolicy[] = [], workload = target) =>
    planTunnel(
      stateOf({ workloads: [source, workload], services: [aService()], policies }),
      workload,
      {
        authority,
        localIp: at('10.0.0.2:1').ip,
        sourceIp: at('10.0.0.9:1').ip,
        peer,
      },
    );

  test('for the pod it came to is delivered', () => {
    expect(ask('10.0.0.2:8080')).toMatchObject({
      kind: 'deliver',
      to: { ip: '10.0.0.2', port: 8080 },
    });
  });

  test.each([
    '10.0.0.3:80',
    '10.96.0.1:80',
    '127.0.0.1:80',
    '[::1]:80',
    '169.254.169.254:80',
    '[fd00::2]:80',
    '[::ffff:10.0.0.2]:80',
    '10.0.0.2:0',
    '10.0.0.2:65536',
    '10.0.0.2',
    ':80',
    '',
    'user@10.0.0.2:80',
    '010.0.0.2:80',
    '10.0.0.2:080',
    '10.0.2:80',
    '0x0a000002:80',
    'other.test.svc.cluster.local:80',
    'svc.test.svc.cluster.local:80',
    `${'a'.repeat(300)}:80`,
    '10.0.0.2:80 ',
    '10.0.0.2:80\n',
    '[10.0.0.2]:80',
    '10.0.0.2:15001',
    '10.0.0.2:15006',
    '10.0.0.2:15008',
    '10.0.0.2:15000',
    '10.0.0.2:15020',
    '10.0.0.2:15021',
    '10.0.0.2:15053',
  ])('for %j is a bad request', (authority) => {
    expect(ask(authority)).toMatchObject({ kind: 'deny', status: 400 });
  });

  test('for a service of the pod goes to the target port', () => {
    const member = endpoint('target', '10.0.0.2');
    expect(ask('svc.test.svc.cluster.local:80', [], member)).toMatchObject({
      kind: 'deliver',
      to: { ip: '10.0.0.2', port: 8080 },
    });
    expect(ask('svc.test.svc.cluster.local:81', [], member)).toMatchObject({
      kind: 'deny',
      status: 400,
    });
  });

  test('is refused by the policy that names the caller, and the refusal names the policy', () => {
    const principal = {
      kind: 'connection',
      attribute: 'source.principal',
      values: [{ kind: 'exact', value: 'cluster.local/ns/test/sa/source' }],
      notValues: [],
    };
    const deny = aPolicy({ rules: [{ from: [[principal]], to: [], when: [] }] });
    expect(ask('10.0.0.2:80', [deny])).toMatchObject({
      kind: 'deny',
      status: 401,
      denial: { policy: 'test/p', reason: 'explicit-deny' },
    });
    const allowOther = aPolicy({
      action: 'ALLOW',
      rules: [
        { from: [[{ ...principal, values: [{ kind: 'exact', value: 'x' }] }]], to: [], when: [] },
      ],
    });
    expect(ask('10.0.0.2:80', [allowOther])).toMatchObject({
      kind: 'deny',
      denial: { reason: 'no-allow-matched' },
    });
    expect(
      ask('10.0.0.2:80', [
        aPolicy({ action: 'ALLOW', rules: [{ from: [[principal]], to: [], when: [] }] }),
      ]),
    ).toMatchObject({ kind: 'deliver' });
  });

  test('is refused while a policy that selects the workload has not arrived', () => {
    const waiting = aWorkload({ name: 'target', addresses: ['10.0.0.2'], policies: ['test/late'] });
    expect(ask('10.0.0.2:80', [], waiting)).toMatchObject({
      kind: 'deny',
      denial: { reason: 'missing-policy', policy: 'test/late' },
    });
  });

  test('a rule about the request denies its L4 superset and never allows', () => {
    const method = {
      kind: 'request',
      attribute: { kind: 'method' },
      values: [{ kind: 'exact', value: 'GET' }],
      notValues: [],
    };
    const rules = [{ from: [], to: [[method]], when: [] }];
    expect(ask('10.0.0.2:80', [aPolicy({ rules })])).toMatchObject({ kind: 'deny' });
    expect(ask('10.0.0.2:80', [aPolicy({ action: 'ALLOW', rules })])).toMatchObject({
      kind: 'deny',
    });
    expect(ask('10.0.0.2:80', [aPolicy({ rules, dryRun: true })])).toMatchObject({
      kind: 'deliver',
      dryRun: [{ policy: 'test/p', would: 'deny' }],
    });
  });
});

describe('plain text', () => {
  const ask = (mtls: object, to = '10.0.0.2:80') => {
    const workload = aWorkload({ name: 'target', addresses: ['10.0.0.2'], mtls });
    return planPlaintext(stateOf({ workloads: [workload] }), {
      workload,
      sourceIp: at('10.0.0.9:1').ip,
      destination: at(to),
    });
  };

  test.each([
    ['PERMISSIVE', [], 'deliver'],
    ['STRICT', [], 'deny'],
    ['DISABLE', [], 'deliver'],
    ['STRICT', [{ port: 80, mode: 'PERMISSIVE' }], 'deliver'],
    ['PERMISSIVE', [{ port: 80, mode: 'STRICT' }], 'deny'],
  ])('in mode %s with ports %j: %s', (mode, ports, kind) => {
    expect(ask({ mode, ports })).toMatchObject({ kind });
  });

  test('to an address that is not the pod, or to a port of the mesh, is refused', () => {
    const mtls = { mode: 'PERMISSIVE', ports: [] };
    expect(ask(mtls, '10.0.0.7:80')).toMatchObject({ kind: 'deny', status: 400 });
    expect(ask(mtls, '10.0.0.2:15008')).toMatchObject({ kind: 'deny', status: 400 });
  });
});
