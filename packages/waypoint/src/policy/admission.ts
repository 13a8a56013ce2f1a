import type { AuthorizationPolicy, PolicyKey } from '@ambit/api';
import { policyKey } from '@ambit/api';
import type { Denial } from '@ambit/core';
import { authorize, firstAsking } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import type { Known } from './judge.ts';
import { connectionFacts } from './judge.ts';
import type { LateDenial } from './late-denial.ts';
import type { Presented } from './tokens.ts';

/** By what something was let in. */
export interface Admission {
  readonly known: Known;
  /** The CUSTOM policies whose authorizers were asked, as they were then. */
  readonly asked: readonly AuthorizationPolicy[];
  /** Absent where no token was asked for. */
  readonly presented?: Presented | undefined;
}

/** Judges what was let in by the policies of now; undefined where it still may. */
export function deniedNow(
  context: Pick<WaypointContext, 'policies'>,
  downstream: Downstream,
  { known, asked }: Admission,
): Denial | undefined {
  const { targets, gateway } = downstream;
  const { policies, custom } = context.policies.of(targets, gateway.namespace);
  const facts = connectionFacts(downstream, known);
  const unasked = custom.filter((policy) => !asked.includes(policy));
  const asking = firstAsking(unasked, facts);
  if (asking !== undefined) {
    const policy = policyKey(asking.namespace, asking.name);
    const message = `policy ${policy} asks an external authorizer, which was not asked about this`;
    return { reason: 'needs-request', policy, message };
  }
  const decision = authorize(policies, facts, 'asked');
  return decision.verdict === 'deny' ? decision.denial : undefined;
}

/** Tells of something under way that is cut because of a policy. */
export function tellLate(
  { metrics, logger }: Pick<WaypointContext, 'metrics' | 'logger'>,
  { peer, service, workload }: Downstream,
  { policy, message }: LateDenial,
): void {
  metrics.rejected('late-rejection');
  logger.warn(
    {
      'src.identity': peer.uri,
      'dst.service': service?.hostname,
      'dst.workload': workload?.name,
      policy,
      error: message,
    },
    'no longer allowed',
  );
}

/** What Envoy's access log says of who was refused by a policy. */
export function accessDenied(policy: PolicyKey): string {
  return `rbac_access_denied_matched_policy[${policy}]`;
}

/** What a client is told that has had no answer yet, and the access log in any case. */
export function lateAnswer({ reason, policy, message }: LateDenial): {
  readonly status: number;
  readonly details: string;
  readonly body: string;
} {
  return reason === 'invalid-token'
    ? { status: 401, details: 'jwt_authn_access_denied', body: message }
    : { status: 403, details: accessDenied(policy), body: 'RBAC: access denied' };
}
