import type { AuthorizationPolicy, ExtensionProvider, HeaderChanges } from '@ambit/api';
import { policyKey } from '@ambit/api';
import type { ConnectionFacts } from '@ambit/core';
import { causeChain, firstAsking } from '@ambit/core';
import type { Downstream, WaypointContext } from '../../context.ts';
import { CheckedExchange } from '../../http/checked.ts';
import type { HeldBody } from '../../http/checked.ts';
import type { HeaderList } from '../../http/headers.ts';
import { fold } from '../../http/vouched.ts';
import type { ServerExchange } from '../../http/message.ts';
import { changeHeaders } from '../../route/changes.ts';
import type { Authorizer, Check, Verdict } from './check.ts';
import { isAuthorizers } from './fields.ts';
import { askOverGrpc } from './grpc.ts';
import { askOverHttp } from './http.ts';

/** How a request is refused because of an authorizer. */
export interface Refusal {
  readonly status: number;
  readonly details: string;
  readonly body: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** What becomes of a request for which CUSTOM policies hold. Exactly one of them is called, once. */
export interface Outcome {
  /** Goes on, with this exchange in place of the one that came. */
  readonly pass: (exchange: ServerExchange) => void;
  readonly refuse: (refusal: Refusal) => void;
  readonly gone: () => void;
}

/** Who is to be asked, or why nobody can be. */
export type Plan =
  | { readonly kind: 'ask'; readonly provider: Authorizer; readonly policy: AuthorizationPolicy }
  | { readonly kind: 'nobody' }
  | { readonly kind: 'refuse'; readonly policy: AuthorizationPolicy; readonly why: string };

/** As in Istio one provider decides for a target: where policies name several, what they match is refused. */
export function planAsking(
  policies: readonly AuthorizationPolicy[],
  providers: readonly ExtensionProvider[],
  facts: ConnectionFacts,
): Plan {
  const policy = firstAsking(policies, facts);
  if (policy === undefined) return { kind: 'nobody' };
  const names = new Set(policies.map((one) => one.provider ?? ''));
  if (names.size > 1) {
    return { kind: 'refuse', policy, why: `policies name several providers: ${[...names].join()}` };
  }
  const provider = authorizerOf(policy, providers);
  return provider === undefined
    ? { kind: 'refuse', policy, why: `no external authorizer is called ${policy.provider ?? '""'}` }
    : { kind: 'ask', provider, policy };
}

function authorizerOf(
  policy: AuthorizationPolicy,
  providers: readonly ExtensionProvider[],
): Authorizer | undefined {
  const found = providers.find(({ name }) => name === policy.provider);
  return found?.kind === 'ext-authz-http' || found?.kind === 'ext-authz-grpc' ? found : undefined;
}

/** The CUSTOM policies that hold, and what they are to judge. */
export interface Concern {
  readonly policies: readonly AuthorizationPolicy[];
  readonly facts: ConnectionFacts;
}

/** Asks about one request where a policy wants it, and takes from it what only the authorizer may say. */
export function askAuthorizer(
  context: WaypointContext,
  downstream: Downstream,
  exchange: ServerExchange,
  { policies, facts }: Concern,
  outcome: Outcome,
): void {
  const providers = context.state.mesh()?.providers ?? [];
  const plan = planAsking(policies, providers, facts);
  const { headers } = exchange.request;
  const asCame = headers.clone();
  // Also where nobody is asked: the application behind cannot tell the two apart.
  for (const policy of policies) {
    const provider = authorizerOf(policy, providers);
    if (provider?.kind !== 'ext-authz-http') continue;
    headers.deleteWhere((name) => isAuthorizers(provider.headersToUpstreamOnAllow, name));
  }
  switch (plan.kind) {
    case 'nobody':
      outcome.pass(exchange);
      return;
    case 'refuse':
      context.metrics.authorized(plan.policy.provider ?? '', 'error');
      context.logger.warn({ policy: keyOf(plan.policy), error: plan.why }, 'nobody can be asked');
      outcome.refuse(refusal(403, 'ext_authz_error', plan.policy));
      return;
    case 'ask':
      new Asking(context, exchange, plan, outcome).start({
        request: exchange.request,
        headers: asCame,
        downstream,
        own: context.identity.uri,
      });
  }
}

function keyOf({ namespace, name }: AuthorizationPolicy): string {
  return policyKey(namespace, name);
}

function refusal(status: number, what: string, policy: AuthorizationPolicy): Refusal {
  const details = `${what}[policy=${keyOf(policy)},provider=${policy.provider ?? ''}]`;
  return { status, details, body: '', headers: [] };
}

/** Of what an authorizer has just written: an application may take `_` for `-`. */
function deleteTwins(headers: HeaderList, { set, add }: HeaderChanges): void {
  const written = new Set([...set, ...add].map(([name]) => name));
  const folded = new Set([...written].map(fold));
  if (written.size > 0) headers.deleteWhere((name) => !written.has(name) && folded.has(fold(name)));
}

class Asking {
  readonly #context: WaypointContext;
  readonly #exchange: CheckedExchange;
  readonly #provider: Authorizer;
  readonly #policy: AuthorizationPolicy;
  readonly #outcome: Outcome;
  readonly #leaving = new AbortController();
  #over = false;

  constructor(
    context: WaypointContext,
    exchange: ServerExchange,
    { provider, policy }: Extract<Plan, { kind: 'ask' }>,
    outcome: Outcome,
  ) {
    this.#context = context;
    this.#exchange = new CheckedExchange(exchange);
    this.#provider = provider;
    this.#policy = policy;
    this.#outcome = outcome;
  }

  start(check: Omit<Check, 'body'>): void {
    // With the client goes the question, and whatever comes of it later is nobody's.
    this.#exchange.watch((error) => {
      if (!this.#finish()) return;
      this.#leaving.abort(error);
      this.#outcome.gone();
    });
    const wanted = this.#provider.body;
    if (wanted === undefined || !this.#exchange.hasBody) {
      void this.#ask({ ...check, body: wanted && { bytes: Buffer.alloc(0), whole: true } });
      return;
    }
    void this.#exchange.hold(wanted.maxBytes).then((body: HeldBody) => {
      if (this.#over) return;
      if (body.whole || wanted.allowPartial) void this.#ask({ ...check, body });
      else this.#refuse(refusal(413, 'request_payload_too_large', this.#policy));
    });
  }

  async #ask(check: Check): Promise<void> {
    const { client, metrics } = this.#context;
    const { name } = this.#provider;
    const { signal } = this.#leaving;
    let verdict: Verdict;
    try {
      verdict =
        this.#provider.kind === 'ext-authz-http'
          ? await askOverHttp(client.http, this.#provider, check, signal)
          : await askOverGrpc(client.grpc, this.#provider, check, signal);
    } catch (error) {
      if (!this.#over) this.#failed(error);
      return;
    }
    if (this.#over) return;
    metrics.authorized(name, verdict.kind === 'allow' ? 'ok' : 'denied');
    if (verdict.kind === 'deny') {
      this.#refuse({ ...refusal(verdict.status, 'ext_authz_denied', this.#policy), ...verdict });
      return;
    }
    const { headers } = check.request;
    changeHeaders(headers, verdict.request);
    deleteTwins(headers, verdict.request);
    this.#exchange.answerWith(verdict.response);
    this.#pass();
  }

  #failed(error: unknown): void {
    const { metrics, logger } = this.#context;
    const { name, failOpen, statusOnError } = this.#provider;
    metrics.authorized(name, failOpen ? 'failure-allowed' : 'error');
    const why = { provider: name, policy: keyOf(this.#policy), error: causeChain(error) };
    logger.warn(
      why,
      failOpen
        ? 'authorizer not asked, as its owner wants it open'
        : 'authorizer not asked, refused',
    );
    if (failOpen) this.#pass();
    else this.#refuse(refusal(statusOnError, 'ext_authz_error', this.#policy));
  }

  #pass(): void {
    if (!this.#finish()) return;
    this.#outcome.pass(this.#exchange);
  }

  #refuse(refused: Refusal): void {
    if (!this.#finish()) return;
    this.#exchange.discard();
    this.#outcome.refuse(refused);
  }

  /** False when something else has come before. */
  #finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#exchange.watch(undefined);
    return true;
  }
}
