import type { AuthorizationPolicy, Match, PolicyTarget, RateLimitPolicy, Rule } from '@ambit/api';
import type { ApplicablePolicies, MeshState } from '@ambit/core';
import { customPolicies } from '@ambit/core';
import type { Spoken } from './spoken.ts';
import { spokenBy } from './spoken.ts';
import { tokenParamsOf } from './token-params.ts';

interface Known {
  readonly generation: number;
  readonly policies: ApplicablePolicies;
  readonly asksForTokens: boolean;
  /** Of the query, which nobody may tell of; only where tokens are asked for. */
  readonly tokenParams: ReadonlySet<string>;
  /** Fields that only the waypoint may say; mostly undefined. */
  readonly spoken: Spoken | undefined;
  /** Whether something holds that is attached to the very service, not to the waypoint. */
  readonly hasOwn: boolean;
  /** Of the policies that are enforced: rules that ask for something of a request. */
  readonly requestRules: readonly Rule[];
  /** Policies of action CUSTOM; mostly none. */
  readonly custom: readonly AuthorizationPolicy[];
  /** Mostly none. */
  readonly rateLimits: readonly RateLimitPolicy[];
}

/** The mesh names the namespace whose policies hold everywhere. */
const concerning = ['policy', 'authentication', 'rate-limit', 'mesh'] as const;

/** What holds for the targets of a connection, looked up once for each change of the state and not for each request. */
export class PolicyCache {
  readonly #state: MeshState;
  readonly #known = new WeakMap<readonly PolicyTarget[], Known>();
  #generation = 0;

  constructor(state: MeshState) {
    this.#state = state;
    state.subscribe((changes) => {
      if (concerning.some((type) => changes.has(type))) this.#generation += 1;
    });
  }

  of(targets: readonly PolicyTarget[], namespace: string): Known {
    const known = this.#known.get(targets);
    if (known?.generation === this.#generation) return known;
    const policies = this.#state.policiesForTargets(targets, namespace);
    const custom = customPolicies(policies);
    const authentications = this.#state.authenticationsForTargets(targets);
    const made: Known = {
      generation: this.#generation,
      policies,
      requestRules: requestRulesOf(policies.policies),
      custom,
      rateLimits: rateLimitsFor(this.#state, targets),
      asksForTokens: authentications.length > 0,
      tokenParams: tokenParamsOf(authentications),
      spoken: spokenBy(authentications, custom, this.#state.mesh()?.providers ?? []),
      hasOwn: this.#anything(
        targets.filter(({ kind }) => ofServices.has(kind)),
        namespace,
      ),
    };
    this.#known.set(targets, made);
    return made;
  }

  #anything(targets: readonly PolicyTarget[], namespace: string): boolean {
    const { policies, undecodable } = this.#state.policiesForTargets(targets, namespace);
    return (
      policies.length + undecodable.length > 0 ||
      this.#state.authenticationsForTargets(targets).length > 0 ||
      rateLimitsFor(this.#state, targets).length > 0
    );
  }
}

function requestRulesOf(policies: readonly AuthorizationPolicy[]): readonly Rule[] {
  const asks = ({ kind }: Match): boolean => kind === 'request';
  return policies
    .filter(({ action, dryRun }) => action !== 'AUDIT' && !dryRun)
    .flatMap(({ action, rules }) =>
      // An authorizer is asked about requests, whatever it is that asks for it.
      rules.filter(
        ({ from, to, when }) =>
          action === 'CUSTOM' || [...from, ...to, when].some((clause) => clause.some(asks)),
      ),
    );
}

const ofServices: ReadonlySet<PolicyTarget['kind']> = new Set(['service', 'service-entry']);

function rateLimitsFor(
  state: MeshState,
  targets: readonly PolicyTarget[],
): readonly RateLimitPolicy[] {
  const held = new Set(targets.map((target) => JSON.stringify(target)));
  return [...state.rateLimitPolicies()].filter((policy) =>
    policy.targets.some((target) => held.has(JSON.stringify(target))),
  );
}
