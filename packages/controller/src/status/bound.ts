import type { Binding } from '../translate/waypoint.ts';
import type { Wanted } from './conditions.ts';

const boundType = 'istio.io/WaypointBound';
const unbound: Wanted = {
  type: boundType,
  status: 'False',
  reason: 'NotRequested',
  message: 'no waypoint is asked for',
};

/** Of a waypoint that was never asked for nothing is said. */
export function boundConditions(binding: Binding, status: unknown): readonly Wanted[] {
  const wanted = bound(binding);
  if (wanted !== undefined) return [wanted];
  return hasBoundCondition((status as { conditions?: unknown } | undefined)?.conditions)
    ? [unbound]
    : [];
}

function bound(binding: Binding): Wanted | undefined {
  switch (binding.kind) {
    case 'none':
      return undefined;
    case 'bound':
      return {
        type: boundType,
        status: 'True',
        reason: 'WaypointAccepted',
        message: `Successfully attached to waypoint ${binding.gateway}`,
      };
    case 'broken':
      return { type: boundType, status: 'False', reason: binding.reason, message: binding.message };
  }
}

function hasBoundCondition(conditions: unknown): boolean {
  return (
    Array.isArray(conditions) &&
    conditions.some((one: unknown) => (one as { type?: unknown } | null)?.type === boundType)
  );
}
