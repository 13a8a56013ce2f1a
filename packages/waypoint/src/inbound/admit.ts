import type { AuthorizationPolicy, HeaderChanges, RateLimitPolicy } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import type { RequestRecord } from '../forward/record.ts';
import type { RequestHead, ServerExchange } from '../http/message.ts';
import type { Admission } from '../policy/admission.ts';
import { accessDenied } from '../policy/admission.ts';
import { askAuthorizer } from '../policy/authorizer/ask.ts';
import type { Known } from '../policy/judge.ts';
import { connectionFacts, factsOf, judge, remoteIpOf } from '../policy/judge.ts';
import { detailsOf, overLimit } from '../policy/rate-limit/apply.ts';
import { withoutParams } from '../policy/token-params.ts';
import type { TokenOutcome } from '../policy/tokens.ts';

/** One request, and by what it is told and answered. */
export interface Serving {
  readonly context: WaypointContext;
  /** Whose policies hold. */
  readonly downstream: Downstream;
  readonly exchange: ServerExchange;
  readonly record: RequestRecord;
  readonly refuse: Refuse;
}

export interface More {
  readonly fields?: readonly (readonly [string, string])[];
  /** Of the destination and the route, made one after the other. */
  readonly changes?: readonly HeaderChanges[];
  /** For who speaks gRPC, where it is not what the status maps to. */
  readonly grpcStatus?: number;
}
export type Refuse = (
  status: number,
  flags: string,
  details: string,
  body: string | Buffer,
  more?: More,
) => void;

/** A request that policies let in. */
export interface Admitted {
  /** In place of the one that came. */
  readonly exchange: ServerExchange;
  readonly admission: Admission;
  /** True where the request is over a limit, and has been told so; `route` is the route's name. */
  readonly isLimited: (route: string) => boolean;
}

/** Verifies tokens, asks authorizers and judges; what is refused is answered, and `pass` is not called. */
export function admit(serving: Serving, pass: (admitted: Admitted) => void): void {
  const { context, downstream, exchange, record, refuse } = serving;
  const { request } = exchange;
  const { targets, gateway } = downstream;
  const held = context.policies.of(targets, gateway.namespace);
  const { asksForTokens, custom: authorizers, rateLimits, spoken } = held;
  if (spoken !== undefined) request.headers.deleteWhere(spoken.isTwin);
  const judged = (token: TokenOutcome): void => {
    if (token.kind === 'invalid') {
      refuse(401, '-', 'jwt_authn_access_denied', token.message, challenge(request));
      return;
    }
    const facts = factsOf(request, token.kind === 'valid' ? token.token : undefined);
    const known = { request: facts, ...remoteIpOf(gateway, downstream, request) };
    const judgedBy = (passed: ServerExchange, custom: 'refuse' | 'asked'): void => {
      const decision = judge(context, downstream, known, custom);
      if (decision.verdict === 'deny') {
        const { policy } = decision.denial;
        refuse(403, '-', accessDenied(policy), 'RBAC: access denied');
        return;
      }
      const asked = custom === 'asked' ? authorizers : noPolicies;
      pass({
        exchange: passed,
        admission: { known, asked, presented: token.presented },
        isLimited: (name) => limits(serving, rateLimits, known, name),
      });
    };
    if (authorizers.length === 0) {
      judgedBy(exchange, 'refuse');
      return;
    }
    const concern = { policies: authorizers, facts: connectionFacts(downstream, known) };
    askAuthorizer(context, downstream, exchange, concern, {
      pass: (passed) => judgedBy(passed, 'asked'),
      refuse: ({ status, details, body, headers }) =>
        refuse(status, 'UAEX', details, body, { fields: headers }),
      gone: () => {
        record.fail(0, 'DC', 'downstream_remote_disconnect');
        record.finish();
      },
    });
  };
  if (!asksForTokens) {
    judged({ kind: 'none' });
    return;
  }
  // A token may have been taken away when the request was let in before.
  const asCame = record.admission.presented?.request;
  context.tokens.verify(targets, request, undefined, asCame).then(judged, (error: unknown) => {
    context.logger.error({ err: error }, 'token not verified');
    refuse(401, '-', 'jwt_authn_failed', 'Jwt verification fails');
  });
}

/** What is told of a request is read by others than who may use its tokens. */
export function hideTokens({ context, downstream, record }: Omit<Serving, 'refuse'>): void {
  if (!record.path.includes('?')) return;
  const { targets, gateway } = downstream;
  const { asksForTokens, tokenParams } = context.policies.of(targets, gateway.namespace);
  if (asksForTokens) record.path = withoutParams(record.path, (name) => tokenParams.has(name));
}

const noPolicies: readonly AuthorizationPolicy[] = [];

function challenge({ authority }: RequestHead): More {
  const value = `Bearer realm="http://${authority}/", error="invalid_token"`;
  return { fields: [['www-authenticate', value]] };
}

function limits(
  { context, downstream, refuse }: Serving,
  policies: readonly RateLimitPolicy[],
  known: Known,
  name: string,
): boolean {
  if (policies.length === 0) return false;
  const limited = { facts: connectionFacts(downstream, known), route: name };
  const over = overLimit(context, policies, limited);
  if (over === undefined) return false;
  refuse(429, 'RL', detailsOf(over), 'local_rate_limited', { fields: over.fields });
  return true;
}
