import type { Target } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import { keyOf } from '../inbound/plan.ts';
import type { Known } from './judge.ts';
import { judge, targetsOf } from './judge.ts';

/**
 * A route may lead to another service than the one that was asked for. What holds for requests to that one holds for these
 * as well: its workloads let this waypoint in because it enforces that. Answers the traffic as if it had been asked for;
 * undefined where nothing holds for it that does not hold for all traffic of the waypoint.
 */
export function destinationOf(
  context: Pick<WaypointContext, 'state' | 'policies'>,
  downstream: Downstream,
  target: Target,
): Downstream | undefined {
  const { gateway } = downstream;
  if (target.kind !== 'service') return undefined;
  if (downstream.service !== undefined && keyOf(downstream.service) === target.service) {
    return undefined;
  }
  const service = context.state.service(target.service);
  if (service === undefined) return undefined;
  const targets = targetsOf({ gateway, service }, context.state);
  if (!context.policies.of(targets, gateway.namespace).hasOwn) return undefined;
  return { ...downstream, service, workload: undefined, port: target.port, targets };
}

/** Whether a copy may go there: nobody waits for it, so that what would have to be asked about it is not sent. */
export function admitsCopy(
  context: WaypointContext,
  downstream: Downstream,
  target: Target,
  known: Known,
): boolean {
  const beyond = destinationOf(context, downstream, target);
  if (beyond === undefined) return true;
  const { targets, gateway } = beyond;
  const { asksForTokens, custom } = context.policies.of(targets, gateway.namespace);
  if (asksForTokens || custom.length > 0) return false;
  return judge(context, beyond, known).verdict === 'allow';
}
