import { bypassWaypointAnnotation } from '@ambit/api';

import type { Requirement } from '../collections/requirements.ts';
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
const optOut = `${bypassWaypointAnnotation}=allow`;

/** What is refused because a policy holds that only a waypoint can enforce; nothing where there never was one. */
export function requiredConditions(
  requirement: Requirement | undefined,
  status: unknown,
): readonly Wanted[] {
  if (requirement !== undefined) return [required(requirement)];
  const message = 'no policy asks for it';
  return hasCondition(status, requiredType)
    ? [{ type: requiredType, status: 'False', reason: 'NoPolicy', message }]
    : [];
}

function required({ by, bypass }: Requirement): Wanted {
  const type = requiredType;
  const because = `because of ${by} the workloads refuse what did not come through their waypoint`;
  if (bypass === undefined) {
    const message = `${because}; annotate them ${optOut} to take it`;
    return { type, status: 'True', reason: 'PolicyAttached', message };
  }
  const taken = `${bypass.who} is annotated ${optOut}`;
  if (!bypass.all) {
    const message = `${because}, but for some: ${taken} and takes it`;
    return { type, status: 'True', reason: 'PartlyBypassed', message };
  }
  const message = `${by} is not enforced on what does not come through the waypoint: ${taken}, so that workloads that are not annotated otherwise take it`;
  return { type, status: 'False', reason: 'Bypassed', message };
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
