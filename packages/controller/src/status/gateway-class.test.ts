import { describe, expect, test } from '@jest/globals';
import { classStatus } from './gateway-class.ts';
import { meshFeatures, routeFeatures } from './supported-features.ts';

const nowMs = Date.UTC(2026, 0, 1);
const at = { generation: 1, nowMs };
const names = (status: unknown): readonly string[] =>
  (status as { supportedFeatures: readonly { name: string }[] }).supportedFeatures.map(
    ({ name }) => name,
  );

describe('the status of a GatewayClass', () => {
  test('of waypoints lists the features of routes that conformance asks for, sorted by name', () => {
    const status = classStatus('istio-waypoint', undefined, at);
    expect(names(status)).toEqual([...routeFeatures].sort());
    expect(names(status)).toContain('HTTPRouteResponseHeaderModification');
    // The Gateway API's suite warns of a feature of meshes there.
    for (const name of names(status)) expect(meshFeatures).not.toContain(name);
    expect(status).toMatchObject({ conditions: [{ type: 'Accepted', status: 'True' }] });
  });

  test('is not written again when it says the same', () => {
    const status = classStatus('istio-waypoint', undefined, at);
    expect(classStatus('istio-waypoint', status, at)).toBeUndefined();
  });

  test('is written when only the features are missing, as after an upgrade, and keeps the conditions', () => {
    const conditions = classStatus('istio-waypoint', undefined, at)?.['conditions'];
    const next = classStatus('istio-waypoint', { conditions }, { ...at, nowMs: nowMs + 60_000 });
    expect(names(next)).toEqual([...routeFeatures]);
    expect(next).not.toHaveProperty('conditions');
  });

  test('of a class that is not served lists nothing', () => {
    const status = classStatus('istio', undefined, at);
    expect(status).toMatchObject({ conditions: [{ type: 'Accepted', status: 'False' }] });
    expect(status).not.toHaveProperty('supportedFeatures');
  });
});
