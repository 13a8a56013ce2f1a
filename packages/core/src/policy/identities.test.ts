import { describe, expect, test } from '@jest/globals';
import type { ConnectionAttribute } from '@ambit/api';
import { parseIp, parsePort, parseSpiffeIdentity } from '@ambit/api';
import { aPolicy, good } from '@ambit/testkit';
import { authorize } from './authorize.ts';

const ip = good(parseIp('10.0.0.1'));
const port = good(parsePort(80));

function named(name: string) {
  return good(parseSpiffeIdentity(`spiffe://cluster.local/ns/${name.replace('/', '/sa/')}`));
}

interface Wanted {
  readonly attribute: ConnectionAttribute;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
}

const exact = (value: string) => ({ kind: 'exact', value });

function match({ attribute, values = [], notValues = [] }: Wanted) {
  return {
    kind: 'connection',
    attribute,
    values: values.map(exact),
    notValues: notValues.map(exact),
  };
}

type Part = 'from' | 'when';

function verdict(
  action: 'ALLOW' | 'DENY',
  wanted: readonly Wanted[],
  [peer, origin]: readonly string[],
  part: Part = 'from',
): 'allow' | 'deny' {
  const clause = wanted.map(match);
  const rule =
    part === 'from' ? { from: [clause], to: [], when: [] } : { from: [], to: [], when: clause };
  const policy = aPolicy({ action, rules: [rule] });
  return authorize(
    { policies: [policy], missing: [], undecodable: [] },
    {
      sourceIp: ip,
      destinationIp: ip,
      destinationPort: port,
      ...(peer === undefined ? {} : { sourceIdentity: named(peer) }),
      ...(origin === undefined ? {} : { originIdentity: named(origin) }),
    },
  ).verdict;
}

/** What an attribute says of one identity. */
function value(attribute: ConnectionAttribute, name: string): string {
  if (attribute === 'source.namespace') return name.split('/')[0] ?? '';
  if (attribute === 'source.serviceAccount') return name;
  return `cluster.local/ns/${name.replace('/', '/sa/')}`;
}

const waypoint = 'shop/waypoint';
const admin = 'office/admin';
const mallory = 'mallory/m';

const attributes = ['source.principal', 'source.namespace', 'source.serviceAccount'] as const;
const cases = attributes.flatMap((attribute) =>
  (['from', 'when'] as const).map((part) => [attribute, part] as const),
);

describe.each(cases)('of two identities, by %s in %s', (attribute, part) => {
  // Who speaks, then: DENY admin, DENY but admin, DENY but waypoint and admin, ALLOW admin, ALLOW but admin,
  // ALLOW waypoint, ALLOW but waypoint, ALLOW but mallory.
  test.each<readonly [string, readonly string[], readonly ('allow' | 'deny')[]]>([
    ['nobody', [], ['allow', 'deny', 'deny', 'deny', 'allow', 'deny', 'allow', 'allow']],
    ['admin', [admin], ['deny', 'allow', 'allow', 'allow', 'deny', 'deny', 'allow', 'allow']],
    ['mallory', [mallory], ['allow', 'deny', 'deny', 'deny', 'allow', 'deny', 'allow', 'deny']],
    [
      'the waypoint',
      [waypoint],
      ['allow', 'deny', 'allow', 'deny', 'allow', 'allow', 'deny', 'allow'],
    ],
    [
      'admin through the waypoint',
      [waypoint, admin],
      ['deny', 'deny', 'allow', 'allow', 'deny', 'allow', 'deny', 'allow'],
    ],
    [
      'mallory through the waypoint',
      [waypoint, mallory],
      ['allow', 'deny', 'deny', 'deny', 'allow', 'allow', 'deny', 'deny'],
    ],
    [
      'the waypoint for itself',
      [waypoint, waypoint],
      ['allow', 'deny', 'allow', 'deny', 'allow', 'allow', 'deny', 'allow'],
    ],
  ])('%s', (_who, speakers, expected) => {
    // prettier-ignore
    const of = (...names: string[]) => names.map((name) => value(attribute, name));
    const asked = [
      ['DENY', { attribute, values: of(admin) }],
      ['DENY', { attribute, notValues: of(admin) }],
      ['DENY', { attribute, notValues: of(waypoint, admin) }],
      ['ALLOW', { attribute, values: of(admin) }],
      ['ALLOW', { attribute, notValues: of(admin) }],
      ['ALLOW', { attribute, values: of(waypoint) }],
      ['ALLOW', { attribute, notValues: of(waypoint) }],
      ['ALLOW', { attribute, notValues: of(mallory) }],
    ] as const;
    expect(asked.map(([action, wanted]) => verdict(action, [wanted], speakers, part))).toEqual(
      expected,
    );
  });
});

describe('several things that are asked of an identity', () => {
  const ofShop = { attribute: 'source.namespace', values: ['shop'] } as const;
  const ofMallory = { attribute: 'source.namespace', values: ['mallory'] } as const;

  test('must be true of the same one, for ALLOW', () => {
    const asMallory = { attribute: 'source.serviceAccount', values: [mallory] } as const;
    expect(verdict('ALLOW', [ofShop, asMallory], [waypoint, mallory])).toBe('deny');
    expect(verdict('ALLOW', [ofMallory, asMallory], [waypoint, mallory])).toBe('allow');
  });

  test('an exception of ALLOW holds for whoever else speaks, too', () => {
    const butMallory = { attribute: 'source.serviceAccount', notValues: [mallory] } as const;
    expect(verdict('ALLOW', [ofShop, butMallory], [waypoint, mallory])).toBe('deny');
    expect(verdict('ALLOW', [ofShop, butMallory], [waypoint, admin])).toBe('allow');
  });

  test('an exception of DENY is for who bears it, and only there', () => {
    const butGood = { attribute: 'source.serviceAccount', notValues: ['mallory/good'] } as const;
    expect(verdict('DENY', [ofMallory, butGood], [waypoint, 'mallory/good'])).toBe('allow');
    expect(verdict('DENY', [ofMallory, butGood], [waypoint, mallory])).toBe('deny');
    expect(verdict('DENY', [ofMallory, butGood], ['mallory/good', mallory])).toBe('deny');
  });
});
