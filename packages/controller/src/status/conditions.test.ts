import { expect, test } from '@jest/globals';
import { acceptance } from './conditions.ts';

const judged = { problems: [], generation: 3 };
const fields = ['spec.rules[0].to[0].operation.methods'];

test.each([
  ['DENY', 'refuses whatever the rest of each rule matches'],
  ['CUSTOM', 'refuses whatever the rest of each rule matches'],
  ['ALLOW', 'such a rule allows nothing there'],
  ['AUDIT', 'tells nothing'],
] as const)(
  'a policy of action %s whose HTTP fields reach no waypoint says so, what comes of it and what to do',
  (action, effect) => {
    const condition = acceptance({ ...judged, action, requestFields: fields }, 'now');
    expect(condition).toMatchObject({
      type: 'ZtunnelAccepted',
      status: 'False',
      reason: 'UnsupportedValue',
      observedGeneration: 3,
    });
    expect(condition.message).toContain('spec.rules[0].to[0].operation.methods');
    expect(condition.message).toContain(effect);
    expect(condition.message).toContain('spec.targetRefs');
  },
);

test('a policy that names nothing of HTTP, or is for waypoints, is accepted', () => {
  const plain = { ...judged, action: 'DENY', requestFields: [] } as const;
  expect(acceptance(plain, 'now')).toMatchObject({ type: 'ZtunnelAccepted', status: 'True' });
  expect(acceptance({ ...plain, targeted: true }, 'now')).toMatchObject({
    type: 'WaypointAccepted',
    status: 'True',
  });
});

test('closed is what is not understood, and not what is understood and does nothing', () => {
  const problem = {
    object: 'AuthorizationPolicy shop/p',
    field: 'spec.x',
    message: 'does nothing',
  };
  const told = (admissible?: true): string => {
    const problems = [{ ...problem, ...(admissible && { admissible }) }];
    return acceptance({ ...judged, problems, requestFields: [] }, 'now').message;
  };
  expect(told()).toBe('kept closed where it is not understood: spec.x: does nothing');
  expect(told(true)).toBe('spec.x: does nothing');
});
