import { describe, expect, test } from '@jest/globals';

import {
  compileSpec,
  destination,
  smallWorld,
  virtualServiceOf,
} from '../../test/virtual-services.ts';
import { compileDelegate } from './virtual-service.ts';

const paths = (count: number, prefix: string) =>
  Array.from({ length: count }, (_, index) => ({ uri: { prefix: `${prefix}${index}` } }));
const route = [destination('reviews')];
const times = <T>(count: number, one: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => one(index));
const delegate = { name: 'inner' };

describe('what delegates may make of a VirtualService', () => {
  const cases: readonly (readonly [
    string,
    readonly object[],
    readonly object[],
    string,
    number,
  ])[] = [
    [
      'routes',
      times(800, (index) => ({ match: [{ uri: { prefix: `/${index}` } }], delegate })),
      times(800, () => ({ route })),
      'more than 4096 routes',
      795,
    ],
    [
      'matches',
      [{ match: paths(2000, '/'), delegate }],
      [{ match: paths(2000, '/a'), route }],
      'more than 4096 matches',
      1,
    ],
    [
      'conditions',
      [
        {
          match: [
            {
              headers: Object.fromEntries(
                times(2000, (index) => [`h-${index}`, { exact: 'x' }] as const),
              ),
            },
          ],
          delegate,
        },
      ],
      [{ match: paths(2000, '/a'), route }],
      'more than 131072 conditions',
      1,
    ],
  ];
  test.each(cases)('%s', (_what, outer, inner, why, closed) => {
    const root = virtualServiceOf({ hosts: ['reviews'], http: outer }, 'root');
    const record = virtualServiceOf({ http: inner }, 'inner');
    const world = { ...smallWorld, delegate: () => record };
    const { http, problems } = compileSpec({ hosts: ['reviews'], http: outer }, world);
    const refused = http.filter(({ action }) => JSON.stringify(action).includes('more than'));
    expect(refused).toHaveLength(closed);
    expect(http.length).toBeLessThanOrEqual(4096 + closed);
    expect(problems).toHaveLength(closed);
    expect(problems.at(0)).toMatchObject({ admissible: true });
    expect(problems.at(0)?.message).toContain(`VirtualService shop/inner: `);
    expect(problems.at(0)?.message).toContain(why);
    const told = compileDelegate(record, world, [root]).problems;
    expect(told.map(({ field }) => field)).toEqual(['spec.http']);
    expect(told.at(0)?.message).toContain(`not used by VirtualService shop/root: `);
    expect(told.at(0)?.message).toContain(why);
  });

  test('what is within the limits is made', () => {
    const record = virtualServiceOf({ http: times(64, () => ({ match: paths(64, '/'), route })) });
    const http = [{ match: paths(1, '/'), delegate }, { delegate }];
    const made = compileSpec({ hosts: ['reviews'], http }, { delegate: () => record });
    expect(made.http.length).toBe(128);
    expect(made.problems).toEqual([]);
    expect(
      compileDelegate(record, { ...smallWorld, delegate: () => record }, []).problems,
    ).toHaveLength(1);
  });
});
