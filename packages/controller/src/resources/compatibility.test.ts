import { expect, test } from '@jest/globals';

import { compatibilityPage } from './compatibility.ts';
import { resources } from './index.ts';

/** The rows of a section by their field. */
function rowsOf(kind: string): ReadonlyMap<string, string> {
  const section =
    compatibilityPage()
      .split(/^## /m)
      .find((one) => one.startsWith(`${kind}\n`)) ?? '';
  return new Map(
    [...section.matchAll(/^\| `([^`]+)` \| (.*) \|$/gm)].map(([, path = '', done = '']) => [
      path,
      done,
    ]),
  );
}

test.each(
  resources.flatMap(({ kind, refused = new Map(), refusedInPart = new Map() }) =>
    [...refused.keys(), ...refusedInPart.keys()].map((path): [string, string] => [
      kind,
      path as string,
    ]),
  ),
)('what is refused is not said to be done: %s %s', (kind, refused) => {
  const below = [...rowsOf(kind)].filter(
    ([path]) => path.startsWith(refused) && /^(?:[.[]|$)/.test(path.slice(refused.length)),
  );
  expect(below).not.toEqual([]);
  expect(below.filter(([, done]) => !done.startsWith('no: '))).toEqual([]);
});

test('what a host may be is said as it is', () => {
  expect(rowsOf('VirtualService').get('hosts[]')).toContain(
    'wildcard such as `*.shop.svc.cluster.local`',
  );
  expect(rowsOf('DestinationRule').get('host')).toContain(
    'wildcard such as `*.shop.svc.cluster.local`',
  );
});
