import type {
  Gateway,
  PolicyTarget,
  ReportedProblem,
  RequestAuthentication,
  ServiceKey,
  SnapshotVersion,
  Upsert,
} from '@ambit/api';
import { decodeAuthentication, decodeGateway, decodeWith } from '@ambit/api';
import { createMeshState } from '@ambit/core';
import { aService, upserts } from '@ambit/testkit';
import { afterEach, expect, test } from '@jest/globals';
import { KeyWatch } from './key-watch.ts';

const waypointKey = 'test/waypoint.test.svc.cluster.local';
const keyOf = (name: string): ServiceKey => `test/${name}.test.svc.cluster.local` as ServiceKey;

function decoded<T>(result: ReturnType<typeof decodeWith<T>>): T {
  if (!result.ok) throw new TypeError(result.error.message);
  return result.value;
}

const gateway: Gateway = decoded(
  decodeWith(decodeGateway, {
    name: 'waypoint',
    namespace: 'test',
    className: 'istio-waypoint',
    waypointFor: 'service',
    identity: 'spiffe://cluster.local/ns/test/sa/waypoint',
    service: waypointKey,
    xfccClientIdentity: false,
    trustedForwarders: [],
  }),
);

function authentication(name: string, target: PolicyTarget): RequestAuthentication {
  const rule = {
    issuer: name,
    audiences: [],
    keys: { kind: 'remote', uri: `https://${name}.test/keys`, timeoutMs: 1000 },
    from: [],
    forwardOriginalToken: false,
    spaceDelimitedClaims: [],
    outputClaimsToHeaders: [],
  };
  const written = { name, namespace: 'test', targets: [target], rules: [rule], broken: false };
  return decoded(decodeWith(decodeAuthentication, written));
}

let watch: KeyWatch | undefined;
afterEach(() => watch?.close());

/** A state with one RequestAuthentication for each target, and a source of keys that fails for these names. */
function watched(failing: Set<string>) {
  const { state, updater } = createMeshState();
  const asked: string[] = [];
  let told: readonly ReportedProblem[] = [];
  const made = new KeyWatch({
    state,
    gateway: () => gateway,
    report: (problems) => (told = problems),
    settleMs: 5,
    againMs: 20,
    jwks: {
      keys: ({ keys, issuer }) => {
        asked.push(issuer);
        if (keys.kind !== 'remote') throw new TypeError('only remote keys are watched');
        if (failing.has(issuer)) made.failed(keys.uri, `no ${issuer}`);
        else made.fetched(keys.uri);
        return Promise.resolve({ ok: true, value: [] });
      },
    },
  });
  watch = made;
  const take = (taken: readonly Upsert[], removals: readonly string[] = []): void => {
    updater.apply({
      upserts: taken,
      undecodable: [],
      removals: removals.map((name) => ({ type: 'authentication', name })),
      complete: true,
    });
  };
  const authentications = (targets: Readonly<Record<string, PolicyTarget>>): Upsert[] =>
    Object.entries(targets).map(([name, target]) => ({
      type: 'authentication',
      name: `test/${name}`,
      version: 'v1' as SnapshotVersion,
      resource: authentication(name, target),
    }));
  return { asked, told: () => told, take, authentications };
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not so in time: ${holds.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const through = (service: string) => ({ waypoint: { kind: 'service', service, port: 15008 } });

test('fetches what this waypoint enforces, and nothing for others', async () => {
  const { asked, take, authentications } = watched(new Set());
  const entry = { name: 'api', resolution: 'static', location: 'external', subjectAltNames: [] };
  const services = [
    aService({ name: 'mine', ...through(waypointKey) }),
    aService({ name: 'theirs', ...through('other/waypoint.other.svc.cluster.local') }),
    aService({ name: 'free' }),
    aService({ name: 'outside', entry, ...through(waypointKey) }),
  ];
  take([
    ...upserts({ services }),
    ...authentications({
      mine: { kind: 'service', service: keyOf('mine') },
      theirs: { kind: 'service', service: keyOf('theirs') },
      free: { kind: 'service', service: keyOf('free') },
      gateway: { kind: 'gateway', namespace: 'test', name: 'waypoint' },
      another: { kind: 'gateway', namespace: 'test', name: 'another' },
      class: { kind: 'gateway-class', name: 'istio-waypoint' },
      entry: { kind: 'service-entry', namespace: 'test', name: 'api' },
    }),
  ]);
  await until(() => asked.length >= 4);
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(asked.sort()).toEqual(['class', 'entry', 'gateway', 'mine']);
});

test('reports what fails with its field, tries it again, and forgets it with its rule', async () => {
  const failing = new Set(['one', 'two']);
  const { asked, told, take, authentications } = watched(failing);
  const target: PolicyTarget = { kind: 'gateway', namespace: 'test', name: 'waypoint' };
  take(authentications({ one: target, two: target }));
  await until(() => told().length === 2);
  expect(told()[0]).toEqual({
    type: 'authentication',
    name: 'test/one',
    field: 'spec.jwtRules[0].jwksUri',
    message: 'no one; without keys every token of the rule is refused',
  });
  failing.delete('one');
  await until(() => told().length === 1);
  take([], ['test/two']);
  await until(() => told().length === 0);
  const times = asked.length;
  await new Promise((resolve) => setTimeout(resolve, 80));
  expect(asked.length).toBe(times);
});
