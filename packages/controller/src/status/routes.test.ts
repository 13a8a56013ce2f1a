import { expect, test } from '@jest/globals';

import type { ParentOutcome } from '../translate/gateway-route.ts';
import { parentsToWrite } from './routes.ts';

const parent = { group: '', kind: 'Service', name: 'web' };
const good = { status: true, reason: 'Accepted', message: 'it holds' };
const outcome: ParentOutcome = { parent, accepted: good, resolvedRefs: good };
const theirs = {
  parentRef: { name: 'gate' },
  controllerName: 'their.io/controller',
  conditions: [],
};
const now = Date.parse('2026-01-01T00:00:00Z');

test('what stands is not written again, and a new generation is', () => {
  const written = parentsToWrite(undefined, [outcome], 1, now);
  expect(written).toMatchObject([
    {
      parentRef: parent,
      controllerName: 'ambit.dev/mesh-controller',
      conditions: [
        { type: 'Accepted', status: 'True', observedGeneration: 1 },
        { type: 'ResolvedRefs', status: 'True', observedGeneration: 1 },
      ],
    },
  ]);
  expect(parentsToWrite({ parents: written }, [outcome], 1, now + 1000)).toBeUndefined();
  expect(parentsToWrite({ parents: written }, [outcome], 2, now + 1000)).toMatchObject([
    { conditions: [{ observedGeneration: 2, lastTransitionTime: '2026-01-01T00:00:00Z' }, {}] },
  ]);
});

test('what another controller says of its parents stays', () => {
  const written = parentsToWrite({ parents: [theirs] }, [outcome], 1, now);
  expect(written).toHaveLength(2);
  expect(written?.[0]).toBe(theirs);
  expect(parentsToWrite({ parents: [theirs] }, [], 1, now)).toBeUndefined();
  // Of a parent that is named no more nothing is said any more.
  expect(parentsToWrite({ parents: written }, [], 2, now)).toEqual([theirs]);
});
