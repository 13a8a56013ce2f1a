import { field, list, text } from '../kube/decode/fields.ts';
import { waypointBoundType as boundType } from '../kube/decode/pod.ts';
import type { Binding } from '../translate/waypoint.ts';
import type { Wanted } from './conditions.ts';

const unbound: Wanted = {
  type: boundType,
  status: 'False',
  reason: 'NotRequested',
  message: 'no waypoint is asked for',
};

const requiredType = 'ambit.dev/WaypointRequired';

/** What is refused because a policy holds that only a waypoint can enforce; nothing where there never was one. */
export function requiredConditions(
  requiredBy: string | undefined,
  status: unknown,
): readonly Wanted[] {
  if (requiredBy !== undefined) {
    const message =
      `because of ${requiredBy} the workloads refuse what did not come through their waypoint; ` +
      'annotate them ambit.dev/bypass-waypoint=allow to take it';
    return [{ type: requiredType, status: 'True', reason: 'PolicyAttached', message }];
  }
  const message = 'no policy asks for it';
  return hasCondition(status, requiredType)
    ? [{ type: requiredType, status: 'False', reason: 'NoPolicy', message }]
    : [];
}

/** Of a waypoint that was never asked for nothing is said. */
export function boundConditions(binding: Binding, status: unknown): readonly Wanted[] {
  const wanted = bound(binding);
  if (wanted !== undefined) return [wanted];
  return hasCondition(status, boundType) ? [unbound] : [];
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

/** Whether anything was ever said of the type. */
export function hasCondition(status: unknown, type: string): boolean {
  return list(field(status, 'conditions')).some((one) => text(field(one, 'type')) === type);
}
