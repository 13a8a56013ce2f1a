import { describe, expect, test } from '@jest/globals';

import type { Place, Running } from './watch-plan.ts';
import {
  everywhere,
  isCrowded,
  limitOfFew,
  limitOfMany,
  pathIn,
  placesOf,
  planWatches,
} from './watch-plan.ts';

const names = (count: number): ReadonlySet<string> =>
  new Set(Array.from({ length: count }, (_, index) => `ns-${index}`));
const at = (namespace: string): Place => ({ key: namespace, namespace });

describe('where a kind is watched', () => {
  test('everywhere without selectors, and in each namespace that is in scope with them', () => {
    expect(placesOf(undefined, false)).toEqual([everywhere]);
    expect(placesOf(new Set(['shop', 'root']), false)).toEqual([at('root'), at('shop')]);
  });

  test.each([
    ['many', limitOfMany],
    ['few', limitOfFew],
  ])(
    'everywhere beyond the most namespaces, and not before there are clearly fewer: kinds of %s objects',
    (_what, limit) => {
      const { most, again } = limit;
      let crowded = false;
      const after = (count: number | undefined): boolean =>
        (crowded = isCrowded(count === undefined ? undefined : names(count), limit, crowded));
      expect(after(most)).toBe(false);
      expect(after(most + 1)).toBe(true);
      expect(after(most)).toBe(true);
      expect(after(again + 1)).toBe(true);
      expect(after(again)).toBe(false);
      expect(after(most)).toBe(false);
      // Without selectors nothing is crowded: those that come then count anew.
      expect(after(most + 1)).toBe(true);
      expect(after(undefined)).toBe(false);
      expect(after(most)).toBe(false);
      expect(placesOf(names(3), true)).toEqual([everywhere]);
    },
  );

  test('paths of the core and of a group', () => {
    expect(pathIn(everywhere, '/api/v1/pods')).toBe('/api/v1/pods');
    expect(pathIn(at('shop'), '/api/v1/pods')).toBe('/api/v1/namespaces/shop/pods');
    expect(pathIn(at('shop'), '/apis/a.dev/v1/things')).toBe(
      '/apis/a.dev/v1/namespaces/shop/things',
    );
  });
});

describe('from what runs to what is wanted', () => {
  const running = (...places: readonly (readonly [Place, boolean | 'failing'])[]) =>
    new Map<string, Running>(
      places.map(([place, listed]) => {
        const state = listed === 'failing' ? listed : listed ? 'listed' : 'asking';
        return [place.key, { place, state }] as const;
      }),
    );
  const plan = (wanted: readonly Place[], now: ReadonlyMap<string, Running>) => {
    const { start, stop } = planWatches(wanted, now);
    return { start: start.map(({ key }) => key), stop };
  };
  const [a, b, c, d] = [at('a'), at('b'), at('c'), at('d')];

  test.each<
    [string, readonly Place[], ReadonlyMap<string, Running>, readonly string[], readonly string[]]
  >([
    ['nothing runs', [a, b], running(), ['a', 'b'], []],
    ['all runs', [a, b], running([a, true], [b, false]), [], []],
    ['many at once: two are asked', [a, b, c], running(), ['a', 'b'], []],
    ['… one more when one is listed', [a, b, c, d], running([a, true], [b, false]), ['c'], []],
    ['… or fails', [a, b, c, d], running([a, 'failing'], [b, false]), ['c'], []],
    [
      'one that fails takes nobody’s place',
      [a],
      running([everywhere, true], [a, 'failing']),
      [],
      [],
    ],
    ['a namespace comes in', [a, b], running([a, true]), ['b'], []],
    ['one goes out, and its objects with it', [a], running([a, false], [b, true]), [], ['b']],
    ['one goes out while another comes in', [a], running([b, true]), ['a'], ['b']],
    ['too many: none stops', [everywhere], running([a, true], [b, true]), [''], []],
    ['… before all is listed', [everywhere], running([everywhere, false], [a, true]), [], []],
    ['… and then they do', [everywhere], running([everywhere, true], [a, true]), [], ['a']],
    ['few again: the one goes on', [a, b], running([everywhere, true]), ['a', 'b'], []],
    ['… until each', [a, b], running([everywhere, true], [a, true], [b, false]), [], []],
    ['… is listed', [a, b], running([everywhere, true], [a, true], [b, true]), [], ['']],
    ['and back before that', [everywhere], running([everywhere, true], [a, false]), [], ['a']],
    [
      'what is asked for by other labels goes on until the new labels are listed',
      [{ key: 'x', labelSelector: 'x' }],
      running([{ key: 'y', labelSelector: 'y' }, true]),
      ['x'],
      [],
    ],
  ])('%s', (_what, wanted, now, start, stop) => {
    expect(plan(wanted, now)).toEqual({ start, stop });
  });
});
