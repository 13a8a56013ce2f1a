import type { PolicyTarget } from '@ambit/api';
import type { Decision, RequestFacts, VerifiedToken } from '@ambit/core';
import { authorize } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import type { RequestHead } from '../http/message.ts';
import { keyOf } from '../inbound/plan.ts';

/** What policies may be attached to for traffic like this. */
export function targetsOf({
  gateway,
  service,
}: Pick<Downstream, 'gateway' | 'service'>): readonly PolicyTarget[] {
  return [
    { kind: 'gateway-class', name: gateway.className },
    { kind: 'gateway', namespace: gateway.namespace, name: gateway.name },
    ...(service === undefined ? [] : [{ kind: 'service', service: keyOf(service) } as const]),
  ];
}

/** Judges a request, or a connection of which no more is known than its ends. */
export function judge(
  context: WaypointContext,
  downstream: Downstream,
  request?: RequestFacts,
): Decision {
  const { targets, gateway } = downstream;
  const applicable = context.policies.of(targets, gateway.namespace).policies;
  const decision = authorize(applicable, {
    sourceIdentity: downstream.peer,
    sourceIp: downstream.source.ip,
    destinationIp:
      downstream.service?.vips[0] ?? downstream.workload?.addresses[0] ?? downstream.local.ip,
    destinationPort: downstream.port,
    ...(request === undefined ? {} : { request }),
  });
  for (const { policy, would } of decision.dryRun) context.metrics.dryRun(policy, would);
  return decision;
}

export function factsOf(request: RequestHead, token: VerifiedToken | undefined): RequestFacts {
  const queryAt = request.path.indexOf('?');
  return {
    method: request.method,
    authority: request.authority,
    path: queryAt < 0 ? request.path : request.path.slice(0, queryAt),
    header: (name) =>
      name === 'host' || name === ':authority' ? [request.authority] : request.headers.all(name),
    ...(token === undefined ? {} : { token }),
  };
}
