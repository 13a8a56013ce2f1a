import { envOf } from '@ambit/core';
import { expect, test } from '@jest/globals';
import { parseConfig } from './config.ts';

const waypointOf = (values: Readonly<Record<string, string>>) => {
  const config = parseConfig(envOf(values));
  return {
    policy: config.waypointImagePullPolicy,
    secrets: config.waypointImagePullSecrets,
    resources: config.waypointResources,
  };
};

test('how waypoints are pulled and sized is read from the environment', () => {
  expect(waypointOf({})).toEqual({
    policy: undefined,
    secrets: [],
    resources: { requests: { cpu: '100m', memory: '128Mi' } },
  });
  expect(
    waypointOf({
      WAYPOINT_IMAGE_PULL_POLICY: 'Never',
      WAYPOINT_IMAGE_PULL_SECRETS: 'registry, mirror',
      WAYPOINT_RESOURCES: '{"limits":{"cpu":2}}',
    }),
  ).toEqual({
    policy: 'Never',
    secrets: ['registry', 'mirror'],
    resources: { limits: { cpu: 2 } },
  });
});

test('ranges that waypoints may ask for keys are ranges', () => {
  const allowed = (text: string) => parseConfig(envOf({ JWKS_ALLOWED_CIDRS: text }));
  expect(allowed('10.1.0.0/16, fd00::/64').jwksAllowedCidrs).toEqual(['10.1.0.0/16', 'fd00::/64']);
  expect(() => allowed('10.1.0.0/33')).toThrow(/JWKS_ALLOWED_CIDRS/);
});

test('a policy and resources that Kubernetes does not know are refused by name', () => {
  expect(() => waypointOf({ WAYPOINT_IMAGE_PULL_POLICY: 'Sometimes' })).toThrow(
    /WAYPOINT_IMAGE_PULL_POLICY/,
  );
  for (const wrong of [
    'cpu',
    '[]',
    '{"request":{}}',
    '{"limits":{"cpu":{}}}',
    '{"limits":[]}',
    '{"limits":{"cpu":"much"}}',
  ])
    expect(() => waypointOf({ WAYPOINT_RESOURCES: wrong })).toThrow(/WAYPOINT_RESOURCES/);
});

test.each([
  ['SERVING_NAMES', 'mesh.example,*.mesh.example,10.0.0.1,fd00::1', 'a b'],
  ['ADVERTISED_ADDRESS', 'mesh.example:15012', 'mesh.example'],
  ['CERTIFICATE_TTL', '2160h', '87601h'],
  ['CERTIFICATE_TTL', '1m', '59s'],
])('%s may be %s, and not %s', (name, good, bad) => {
  expect(() => parseConfig(envOf({ [name]: good }))).not.toThrow();
  expect(() => parseConfig(envOf({ [name]: bad }))).toThrow(new RegExp(name));
});
