import type { RequestAuthentication } from '@ambit/api';
import { policyKey } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import type { RequestHead } from '../http/message.ts';
import type { Admission } from './admission.ts';
import { deniedNow } from './admission.ts';
import type { LateDenial } from './late-denial.ts';
import { factsOf } from './judge.ts';
import type { TokenOutcome } from './tokens.ts';
import { copyOf } from './tokens.ts';

/** What is known of a request that was let in. */
interface LetIn {
  readonly startTimeMs: number;
  admission: Admission;
}

type Held = readonly (RequestAuthentication | 'undecodable')[];

/**
 * Verifies the token of a request that is under way as if the request had come under the rules of now, and lets
 * policies judge what the token says by them. A token that was good when it came and is over since is no reason to
 * cut. `sent` is what policies judge, where a route has made another request of it. Undefined where it may go on.
 */
export async function verifiedAgain(
  context: WaypointContext,
  downstream: Downstream,
  request: RequestHead,
  letIn: LetIn,
  sent?: RequestHead,
): Promise<LateDenial | undefined> {
  const { presented = { request, held: [] } } = letIn.admission;
  const held = context.state.authenticationsForTargets(downstream.targets);
  if (isSame(held, presented.held)) return undefined;
  const verified = copyOf(presented.request);
  const outcome = await context.tokens
    .verify(downstream.targets, verified, letIn.startTimeMs)
    .catch((error: unknown): TokenOutcome => {
      context.logger.error({ err: error }, 'token not verified');
      return { kind: 'invalid', message: 'Jwt verification fails' };
    });
  if (outcome.kind === 'invalid') return invalid(held, outcome.message);
  const { known, asked } = letIn.admission;
  const facts = factsOf(sent ?? verified, outcome.kind === 'valid' ? outcome.token : undefined);
  letIn.admission = {
    known: { ...known, request: facts },
    asked,
    presented: { request: presented.request, held },
  };
  return deniedNow(context, downstream, letIn.admission);
}

function isSame(held: Held, before: Held): boolean {
  return held.length === before.length && held.every((one, index) => one === before[index]);
}

function invalid(held: Held, message: string): LateDenial {
  const [first] = held;
  const [namespace, name] =
    first === undefined || first === 'undecodable'
      ? ['', 'RequestAuthentication']
      : [first.namespace, first.name];
  return { reason: 'invalid-token', policy: policyKey(namespace, name), message };
}
