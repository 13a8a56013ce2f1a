import { describe, expect, test } from '@jest/globals';
import type { AuthorizationPolicy, SocketAddress, SpiffeIdentity } from '@ambit/api';
import { parseSocketAddress, parseSpiffeIdentity } from '@ambit/api';
import { createMeshState, createMetrics, createLogger } from '@ambit/core';
import { aPolicy, aWorkload, upserts } from '@ambit/testkit';
import { createZtunnelMetrics } from '../metrics.ts';
import { planPlaintext, planTunnel } from './plan.ts';
import { tellPolicies } from './tell.ts';

function at(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

function identity(account: string, namespace = 'test', trustDomain = 'cluster.local') {
  const parsed = parseSpiffeIdentity(`spiffe://${trustDomain}/ns/${namespace}/sa/${account}`);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

const waypoint = identity('waypoint');
const fields = { name: 'target', addresses: ['10.0.0.2'], waypointIdentities: [waypoint.uri] };
const required = aWorkload({ ...fields, waypointRequiredBy: 'AuthorizationPolicy test/l7' });
const routed = aWorkload(fields);

interface Asking {
  readonly peer: SpiffeIdentity;
  /** What the header `x-ambit-client-identity` says. */
  readonly origin?: SpiffeIdentity;
  readonly policies?: readonly AuthorizationPolicy[];
  readonly workload?: typeof required;
}

function ask({ policies = [], workload = required, ...who }: Asking) {
  const { state, updater } = createMeshState();
  updater.apply({
    upserts: upserts({ workloads: [workload], policies: [...policies] }),
    undecodable: [],
    removals: [],
    complete: true,
  });
  return planTunnel(state, workload, {
    authority: '10.0.0.2:80',
    localIp: at('10.0.0.2:1').ip,
    sourceIp: at('10.0.0.9:1').ip,
    ...who,
  });
}

const naming = (account: string) => [
  {
    from: [
      [
        {
          kind: 'connection',
          attribute: 'source.principal',
          values: [{ kind: 'exact', value: `cluster.local/ns/test/sa/${account}` }],
          notValues: [],
        },
      ],
    ],
    to: [],
    when: [],
  },
];

describe('a workload for which a policy of its waypoint holds', () => {
  test('takes what comes through its waypoint', () => {
    expect(ask({ peer: waypoint })).toMatchObject({ kind: 'deliver' });
    expect(ask({ peer: waypoint, origin: identity('client') })).toMatchObject({ kind: 'deliver' });
  });

  test.each([
    ['a client, straight to it', identity('client'), undefined],
    ['itself', identity('target'), undefined],
    ['the node proxy', identity('ztunnel', 'istio-system'), undefined],
    ['a waypoint of the same name in another namespace', identity('waypoint', 'other'), undefined],
    ['a waypoint of another trust domain', identity('waypoint', 'test', 'evil.test'), undefined],
    ['the waypoint of another service in its namespace', identity('other-waypoint'), undefined],
    ['an account whose name begins like its waypoint', identity('waypoint-2b'), undefined],
    ['a client that says it speaks for the waypoint', identity('client'), waypoint],
    ['a foreign waypoint that says the same', identity('waypoint', 'other'), waypoint],
  ])('refuses %s', (_who, peer, origin) => {
    const plan = ask({ peer, ...(origin === undefined ? {} : { origin }) });
    expect(plan).toMatchObject({ kind: 'deny', status: 401, flags: 'DENY' });
    expect(plan.kind === 'deny' && plan.message).toContain('AuthorizationPolicy test/l7');
  });

  test('refuses plain text, whatever PeerAuthentication lets in', () => {
    for (const mode of ['PERMISSIVE', 'DISABLE', 'STRICT'] as const) {
      const { state } = createMeshState();
      const workload = { ...required, mtls: { mode, ports: [] } };
      const facts = { workload, sourceIp: at('10.0.0.9:1').ip, destination: at('10.0.0.2:80') };
      expect(planPlaintext(state, facts)).toMatchObject({ kind: 'deny', status: 401 });
    }
  });
});

describe('for whom the peer says it speaks', () => {
  const allow = [aPolicy({ action: 'ALLOW', rules: naming('client') })];
  const deny = [aPolicy({ action: 'DENY', rules: naming('client') })];

  test('is believed of its own waypoint: policies may name either of the two', () => {
    for (const workload of [required, routed]) {
      const through = { peer: waypoint, workload };
      const origin = identity('client');
      expect(ask({ ...through, origin, policies: allow })).toMatchObject({ kind: 'deliver' });
      expect(ask({ ...through, policies: allow })).toMatchObject({ kind: 'deny' });
      expect(ask({ ...through, origin, policies: deny })).toMatchObject({ kind: 'deny' });
      expect(
        ask({
          ...through,
          origin: identity('x'),
          policies: [aPolicy({ rules: naming('waypoint') })],
        }),
      ).toMatchObject({ kind: 'deny' });
    }
  });

  test('is not believed of anybody else: it neither opens nor closes anything', () => {
    const workload = routed;
    const origin = identity('client');
    for (const peer of [identity('other'), identity('waypoint', 'other'), identity('target')]) {
      expect(ask({ peer, workload, origin, policies: allow })).toMatchObject({
        kind: 'deny',
        denial: { policy: 'test/p' },
      });
      expect(ask({ peer, workload, origin, policies: deny })).toMatchObject({ kind: 'deliver' });
    }
    // Nor does it hide who the peer is.
    expect(
      ask({ peer: identity('client'), workload, origin: identity('x'), policies: deny }),
    ).toMatchObject({
      kind: 'deny',
    });
  });
});

describe('policies that decide nothing', () => {
  const asides = [
    aPolicy({ name: 'rehearsed', dryRun: true, rules: naming('client') }),
    aPolicy({ name: 'rehearsed-allow', action: 'ALLOW', dryRun: true, rules: naming('client') }),
    aPolicy({ name: 'watching', action: 'AUDIT', rules: naming('client') }),
  ];
  const client = identity('client');

  test('come with the verdict, whichever it is', () => {
    const told = {
      dryRun: [
        { policy: 'test/rehearsed', would: 'deny' },
        { policy: 'test/rehearsed-allow', would: 'allow' },
      ],
      audited: ['test/watching'],
    };
    const asking = { peer: client, workload: routed };
    expect(ask({ ...asking, policies: asides })).toMatchObject({ kind: 'deliver', ...told });
    const policies = [...asides, aPolicy({ name: 'enforced', rules: naming('client') })];
    expect(ask({ ...asking, policies })).toMatchObject({ kind: 'deny', ...told });
    expect(ask({ ...asking, peer: identity('other'), policies: asides })).toMatchObject({
      kind: 'deliver',
      dryRun: [{ policy: 'test/rehearsed-allow', would: 'deny' }],
      audited: [],
    });
  });

  test('are counted and told by name', async () => {
    const registry = createMetrics({ processFigures: false });
    const metrics = createZtunnelMetrics(registry, '0', () => 0);
    const lines: string[] = [];
    const sink = { write: (line: string) => void lines.push(line) };
    const logger = createLogger({ scope: 'test', level: 'info', format: 'json', sink });
    tellPolicies(
      { metrics, logger },
      {
        direction: 'inbound',
        podUid: 'u',
        source: at('10.0.0.9:1'),
        sourceWorkload: undefined,
        sourceIdentity: client.uri,
        destination: at('10.0.0.2:80'),
        hboneAddress: undefined,
        destinationWorkload: routed,
        destinationIdentity: undefined,
        service: undefined,
        mutualTls: true,
      },
      ask({ peer: client, workload: routed, policies: asides }),
    );
    const text = await registry.render();
    expect(text).toContain('ambit_dry_run_total{policy="test/rehearsed",would="deny"} 1');
    expect(text).toContain('ambit_dry_run_total{policy="test/rehearsed-allow",would="allow"} 1');
    expect(text).toContain('ambit_audited_total{policy="test/watching"} 1');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { policy: 'test/rehearsed', 'src.identity': client.uri, verdict: 'allow' },
      { policy: 'test/watching', 'dst.workload': 'target' },
    ]);
  });
});
