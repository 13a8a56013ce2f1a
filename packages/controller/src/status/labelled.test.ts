import { describe, expect, test } from '@jest/globals';
import type { Binding } from '../translate/waypoint.ts';
import { conditionToWrite } from './labelled.ts';

const type = 'istio.io/WaypointBound';
const atMs = Date.UTC(2030, 0, 1);
const ref = { kind: 'service', service: 'shop/waypoint', port: 15008 } as never;
const bound: Binding = { kind: 'bound', gateway: 'shop/waypoint', ref };
const broken: Binding = {
  kind: 'broken',
  gateway: 'shop/waypoint',
  ref,
  reason: 'WaypointMissing',
  message: 'there is none',
};
const others = [{ type: 'Ready', status: 'True' }];
const said = (status: string, reason: string, message: string) => ({
  conditions: [
    ...others,
    { type, status, reason, message, lastTransitionTime: '2020-01-01T00:00:00Z' },
  ],
});

describe('the condition of a Pod or Namespace that is labelled itself', () => {
  test('is nothing where no waypoint was ever asked for', () => {
    expect(conditionToWrite({ kind: 'none' }, { conditions: others }, atMs)).toBeUndefined();
  });

  test('is that one alone, without a generation', () => {
    expect(conditionToWrite(bound, { conditions: others }, atMs)).toEqual({
      type,
      status: 'True',
      reason: 'WaypointAccepted',
      message: 'Successfully attached to waypoint shop/waypoint',
      lastTransitionTime: '2030-01-01T00:00:00Z',
    });
  });

  test('is nothing where it stands there already', () => {
    const status = said('False', 'WaypointMissing', 'there is none');
    expect(conditionToWrite(broken, status, atMs)).toBeUndefined();
    const gone = said('False', 'NotRequested', 'no waypoint is asked for');
    expect(conditionToWrite({ kind: 'none' }, gone, atMs)).toBeUndefined();
  });

  test('keeps its time while only the reason changes, and takes a new one with the status', () => {
    const status = said('False', 'NotAllowed', 'not from here');
    expect(conditionToWrite(broken, status, atMs)).toMatchObject({
      reason: 'WaypointMissing',
      lastTransitionTime: '2020-01-01T00:00:00Z',
    });
    expect(conditionToWrite(bound, status, atMs)).toMatchObject({
      lastTransitionTime: '2030-01-01T00:00:00Z',
    });
    expect(conditionToWrite({ kind: 'none' }, said('True', 'WaypointAccepted', ''), atMs)).toEqual({
      type,
      status: 'False',
      reason: 'NotRequested',
      message: 'no waypoint is asked for',
      lastTransitionTime: '2030-01-01T00:00:00Z',
    });
  });
});
