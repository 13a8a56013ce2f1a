import { describe, expect, test } from '@jest/globals';
import type { LocalityBalancing, Workload } from '@ambit/api';
import { aWorkload } from '@ambit/testkit';
import type { Placing } from './locality.ts';
import { localityMatches, place, rankOf } from './locality.ts';

function at(locality: string, fields: Record<string, unknown> = {}): Workload {
  const [region = '', zone = '', subzone = ''] = locality.split('/');
  return aWorkload({ locality: { region, zone, subzone }, ...fields });
}

const silent: LocalityBalancing = {
  enabled: true,
  distribute: [],
  failover: [],
  failoverPriority: [],
};

function placed(localities: readonly string[], fields: Partial<Placing>): unknown {
  const hosts = localities.map((locality) => ({ name: locality, workload: at(locality) }));
  const placement = place(hosts, {
    own: at('eu/1/a'),
    settings: silent,
    distribution: { mode: 'any' },
    failover: true,
    ...fields,
  });
  const names = (list: readonly { name: string }[]): string[] => list.map(({ name }) => name);
  switch (placement.kind) {
    case 'together':
      return names(placement.hosts);
    case 'levels':
      return placement.levels.map(names);
    case 'shares':
      return placement.shares.map(({ weight, hosts: of }) => [weight, ...names(of)]);
  }
}

const everywhere = ['us/1/a', 'eu/2/a', 'eu/1/b', 'eu/1/a', 'ap/1/a'];

test('levels by locality, where failing endpoints are noticed', () => {
  expect(placed(everywhere, {})).toEqual([
    ['eu/1/a'],
    ['eu/1/b'],
    ['eu/2/a'],
    ['us/1/a', 'ap/1/a'],
  ]);
});

test('no levels without outlier detection, and none when turned off', () => {
  expect(placed(everywhere, { failover: false })).toEqual(everywhere);
  expect(placed(everywhere, { settings: { ...silent, enabled: false } })).toEqual(everywhere);
});

test('failover names the region that comes next', () => {
  const settings = { ...silent, failover: [{ from: 'eu', to: 'ap' }] };
  expect(placed(['us/1/a', 'ap/1/a', 'eu/1/a'], { settings })).toEqual([
    ['eu/1/a'],
    ['ap/1/a'],
    ['us/1/a'],
  ]);
});

test("a Service's traffic distribution holds without outlier detection", () => {
  const distribution = { mode: 'failover', scopes: ['network', 'region', 'zone'] } as const;
  expect(placed(everywhere, { distribution, failover: false })).toEqual([
    ['eu/1/b', 'eu/1/a'],
    ['eu/2/a'],
    ['us/1/a', 'ap/1/a'],
  ]);
});

describe('distribute', () => {
  const rule = (from: string, ...to: [string, number][]) => ({
    settings: { ...silent, distribute: [{ from, to }] },
  });

  test('shares by place, nothing for a place that is not named', () => {
    expect(placed(everywhere, rule('eu/1/*', ['eu/1/*', 80], ['eu/2/*', 20]))).toEqual([
      [80, 'eu/1/b', 'eu/1/a'],
      [20, 'eu/2/a'],
    ]);
  });

  test('of another place than ours it says nothing', () => {
    expect(placed(everywhere, rule('us/*', ['us/*', 100]))).toEqual(everywhere);
  });

  test('a place without endpoints leaves its share to the others', () => {
    expect(placed(['eu/1/a'], rule('*', ['ap/*', 90], ['eu/*', 10]))).toEqual([[10, 'eu/1/a']]);
  });
});

test.each([
  ['*', true],
  ['eu', true],
  ['eu/*', true],
  ['eu/1/a', true],
  ['eu/1/b', false],
  ['eu/*/b', false],
  ['us/*', false],
])('%s of eu/1/a: %s', (pattern, expected) => {
  expect(localityMatches(pattern, at('eu/1/a').locality)).toBe(expected);
});

describe('failoverPriority', () => {
  const settings = {
    ...silent,
    failoverPriority: ['topology.kubernetes.io/region', 'version', 'tier=gold'],
  };
  const own = at('eu/1/a', { labels: [['version', 'v1']] });
  const rank = (locality: string, labels: [string, string][]): number =>
    rankOf(own, at(locality, { labels }), settings);

  test('counts the labels that hold from the first on', () => {
    expect(
      rank('eu/9/z', [
        ['version', 'v1'],
        ['tier', 'gold'],
      ]),
    ).toBe(0);
    const second = rank('eu/9/z', [['version', 'v1']]);
    const third = rank('eu/1/a', [
      ['version', 'v2'],
      ['tier', 'gold'],
    ]);
    const last = rank('us/1/a', [
      ['version', 'v1'],
      ['tier', 'gold'],
    ]);
    expect(0).toBeLessThan(second);
    expect(second).toBeLessThan(third);
    expect(third).toBeLessThan(last);
  });

  test('a label of topology is what the workload is, not what it says', () => {
    expect(
      rank('us/1/a', [
        ['topology.kubernetes.io/region', 'eu'],
        ['version', 'v1'],
      ]),
    ).toBe(rank('us/1/a', []));
  });

  test('with failover, the locality decides among equals', () => {
    const both = {
      ...settings,
      failoverPriority: ['version'],
      failover: [{ from: 'eu', to: 'us' }],
    };
    const rankBoth = (locality: string): number =>
      rankOf(own, at(locality, { labels: [['version', 'v1']] }), both);
    expect(rankBoth('eu/1/a')).toBeLessThan(rankBoth('us/1/a'));
    expect(rankBoth('us/1/a')).toBeLessThan(rankBoth('ap/1/a'));
  });
});
