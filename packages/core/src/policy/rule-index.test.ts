import { expect, test } from '@jest/globals';
import type {
  AuthorizationPolicy,
  Clause,
  IpAddress,
  Match,
  Port,
  SpiffeIdentity,
  StringPattern,
} from '@ambit/api';
import { makeSpiffeIdentity, parseTrustDomain } from '@ambit/api';
import type { ConnectionFacts } from './facts.ts';
import { authorize } from './authorize.ts';

let seed = 7;
const random = (below: number): number => {
  seed = (seed * 48_271) % 2_147_483_647;
  return seed % below;
};
const oneOf = <T>(list: readonly T[]): T => list[random(list.length)] as T;

const paths = ['/', '/a', '/a/', '/a/b', '/b', '/ab', '/c/d'];
const accounts = ['x', 'y', 'z'];
const namespaces = ['n1', 'n2'];

function pattern(values: readonly string[]): StringPattern {
  const kind = oneOf(['exact', 'exact', 'prefix', 'suffix'] as const);
  return random(12) === 0 ? { kind: 'presence' } : { kind, value: oneOf(values) };
}

function some(values: readonly string[], least: number): StringPattern[] {
  return Array.from({ length: least + random(2) }, () => pattern(values));
}

function match(): Match {
  const notPath = random(5) === 0;
  switch (random(4)) {
    case 0:
    case 1:
      return {
        kind: 'request',
        attribute: { kind: 'path' },
        values: notPath ? [] : some(paths, 1),
        notValues: notPath ? some(paths, 1) : [],
      };
    case 2:
      return {
        kind: 'connection',
        attribute: 'source.principal',
        values: some(
          namespaces.flatMap((one) => accounts.map((sa) => `td/ns/${one}/sa/${sa}`)),
          1,
        ),
        notValues: [],
      };
    default:
      return {
        kind: 'connection',
        attribute: 'source.namespace',
        values: some(namespaces, 1),
        notValues: [],
      };
  }
}

const clause = (): Clause => Array.from({ length: 1 + random(2) }, match);
const clauses = (): Clause[] => Array.from({ length: random(3) }, clause);

function policy(index: number): AuthorizationPolicy {
  return {
    name: `p${index}`,
    namespace: 'n',
    action: oneOf(['ALLOW', 'DENY', 'DENY', 'CUSTOM'] as const),
    scope: { kind: 'mesh' },
    dryRun: false,
    rules: Array.from({ length: random(3) }, () => ({
      from: clauses(),
      to: clauses(),
      when: random(4) === 0 ? clause() : [],
    })),
  };
}

function identity(): SpiffeIdentity | undefined {
  const trustDomain = parseTrustDomain('td');
  if (random(5) === 0 || !trustDomain.ok) return undefined;
  const made = makeSpiffeIdentity(trustDomain.value, oneOf(namespaces), oneOf(accounts));
  return made.ok ? made.value : undefined;
}

function facts(): ConnectionFacts {
  const path = oneOf(paths) + oneOf(['', 'x', '/y']);
  const source = identity();
  const origin = random(3) === 0 ? identity() : undefined;
  return {
    ...(source === undefined ? {} : { sourceIdentity: source }),
    ...(origin === undefined ? {} : { originIdentity: origin }),
    sourceIp: '10.0.0.1' as IpAddress,
    destinationIp: '10.0.0.2' as IpAddress,
    destinationPort: 80 as Port,
    ...(random(5) === 0
      ? {}
      : { request: { method: 'GET', authority: 'shop', path, header: () => [] } }),
  };
}

test('a set that is asked often decides as it did when it was asked first', () => {
  let denied = 0;
  for (let round = 0; round < 400; round += 1) {
    const policies = Array.from({ length: 5 + random(12) }, (_, at) => policy(at));
    const often = { policies, missing: [], undecodable: [] };
    for (let ask = 0; ask < 20; ask += 1) {
      const asked = facts();
      const custom = oneOf(['asked', 'refuse'] as const);
      const once = authorize({ ...often }, asked, custom);
      expect(authorize(often, asked, custom)).toEqual(once);
      if (once.verdict === 'deny') denied += 1;
    }
  }
  expect(denied).toBeGreaterThan(500);
});
