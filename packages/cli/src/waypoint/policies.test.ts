import { expect, test } from '@jest/globals';
import type { Held } from './bindings.ts';
import type { Policy } from './policies.ts';
import { policyRows } from './policies.ts';

const gateway = 'shop/waypoint';
const dangling = 'spec.targetRefs[0].name: there is no Service shop/nobody';

function policy(target: readonly [kind: string, name: string], more: Partial<Policy> = {}): Policy {
  const [kind, name] = target;
  const { object, ...rest } = more;
  return {
    kind: 'AuthorizationPolicy',
    ...rest,
    object: {
      status: { conditions: [{ type: 'WaypointAccepted', status: 'True' }] },
      ...object,
      metadata: { name: 'p', namespace: 'shop', ...object?.metadata },
      spec: { targetRefs: [{ kind, name }], ...object?.spec },
    },
  };
}

function held(name: string, waypoint: string | undefined, requiredBy = 'shop/p'): Held {
  const message = `because of AuthorizationPolicy ${requiredBy} the workloads refuse`;
  return { kind: 'Service', key: `shop/${name}`, waypoint, requiredBy: message };
}

function told(one: Policy, all: readonly Held[], pods: readonly string[] = []): unknown {
  return policyRows(gateway, [one], { held: all, pods }).map(({ message }) => message);
}

const metadata = { name: 'p', namespace: 'shop' };
const reviews = ['Service', 'reviews'] as const;

test('what the controller says is closed for a policy is told, wherever it is bound', () => {
  const one = policy(reviews);
  expect(told(one, [held('reviews', gateway)])).toEqual([
    'Service shop/reviews: refused unless it came through shop/waypoint',
  ]);
  expect(told(one, [held('reviews', 'shop/other')])).toEqual([
    'Service shop/reviews: refused unless it came through shop/other',
  ]);
  expect(told(one, [held('reviews', undefined)])).toEqual([
    'Service shop/reviews: refused, and bound to no waypoint',
  ]);
});

test('a second policy on what is closed for the first holds there as well, unless it only rehearses or tells', () => {
  const all = [held('reviews', gateway, 'shop/first')];
  expect(told(policy(reviews), all)).toEqual([
    'Service shop/reviews: refused unless it came through shop/waypoint',
  ]);
  const annotations = { 'istio.io/dry-run': 'true' };
  expect(
    told(policy(reviews, { object: { metadata: { ...metadata, annotations } } }), all),
  ).toEqual(['nothing is refused for it: it is in dry run']);
  expect(told(policy(reviews, { object: { metadata, spec: { action: 'AUDIT' } } }), all)).toEqual([
    'nothing is refused for it: its action is AUDIT',
  ]);
});

test('a target that is not there closes nothing, and the controller’s words say so', () => {
  const conditions = [
    { type: 'WaypointAccepted', status: 'False', reason: 'TargetNotFound', message: dangling },
  ];
  const one = policy(['Service', 'nobody'], { object: { metadata, status: { conditions } } });
  expect(told(one, [held('reviews', gateway, 'shop/other')])).toEqual([
    `nothing is refused for it: TargetNotFound: ${dangling}`,
  ]);
});

test('how much of a policy that is not understood is closed, the controller says', () => {
  const message = 'kept closed where it is not understood: spec.rules[0]: wrong';
  const conditions = [{ type: 'WaypointAccepted', status: 'False', reason: 'Invalid', message }];
  const one = policy(reviews, { object: { metadata, status: { conditions } } });
  expect(told(one, [])).toEqual([`Invalid: ${message}`]);
  expect(told(one, [held('reviews', gateway)])).toEqual([
    `Service shop/reviews: refused unless it came through shop/waypoint; Invalid: ${message}`,
  ]);
});

test('a policy on another Gateway says nothing of this one', () => {
  const all = [held('reviews', gateway, 'shop/first')];
  expect(told(policy(['Gateway', 'other']), all, ['shop/pod'])).toEqual([
    'nothing here: it holds for what is bound to Gateway other',
  ]);
});

test('a policy on this Gateway closes what is bound to it, pods by their address too', () => {
  const one = policy(['Gateway', 'waypoint']);
  expect(told(one, [])).toEqual([
    'nothing is refused for it: nothing is closed that is bound to Gateway waypoint',
  ]);
  expect(told(one, [], ['shop/pod'])).toEqual([
    'pods bound by their own address: refused unless it came through shop/waypoint',
  ]);
  const many = ['a', 'b', 'c', 'd'].map((name) => held(name, gateway));
  expect(told(one, many)).toEqual([
    'Service shop/a, Service shop/b, Service shop/c and 1 more: refused unless it came through shop/waypoint',
  ]);
});

test('of a policy that the controller has not seen nothing is guessed', () => {
  const one = policy(reviews, { object: { metadata, status: {} } });
  expect(told(one, [])).toEqual([
    'nothing is refused for it: the controller has not said anything yet',
  ]);
});

test('a policy of another namespace is shown where it holds for what is bound here', () => {
  const object = { metadata: { name: 'p', namespace: 'bank' } };
  const one = policy(['Service', 'ledger'], { object });
  const ledger = { ...held('ledger', gateway, 'bank/p'), key: 'bank/ledger' };
  expect(told(one, [])).toEqual([]);
  expect(told(one, [ledger])).toEqual([
    'Service bank/ledger: refused unless it came through shop/waypoint',
  ]);
});

test('a policy whose workloads take everything nevertheless is told so', () => {
  const bypassed = 'AuthorizationPolicy shop/p is not enforced on what does not come through';
  const one = { ...held('reviews', gateway), requiredBy: undefined, bypassed };
  expect(told(policy(reviews), [one])).toEqual([bypassed]);
});
