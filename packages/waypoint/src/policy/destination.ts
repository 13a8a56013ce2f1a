import type { Service, Target } from '@ambit/api';
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
  const service = serviceBeyond(context, downstream, target);
  if (service === undefined || target.kind !== 'service') return undefined;
  const targets = targetsOf({ gateway, service }, context.state);
  if (!context.policies.of(targets, gateway.namespace).hasOwn) return undefined;
  return { ...downstream, service, workload: undefined, port: target.port, targets };
}

/** The service that a route leads to, where it is another one than was asked for. */
export function serviceBeyond(
  { state }: Pick<WaypointContext, 'state'>,
  { service }: Pick<Downstream, 'service'>,
  target: Target,
): Service | undefined {
  if (target.kind !== 'service') return undefined;
  const isAsked = service !== undefined && keyOf(service) === target.service;
  return isAsked ? undefined : state.service(target.service);
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
