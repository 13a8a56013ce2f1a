import type {
  AuthorizationPolicy,
  Clause,
  ConnectionAttribute,
  IpAddress,
  Match,
  PolicyKey,
  Rule,
  SpiffeIdentity,
  StringPattern,
} from '@ambit/api';
import { assertNever, cidrContains, policyKey } from '@ambit/api';
import type { ConnectionFacts } from './facts.ts';
import { patternMatches } from './pattern.ts';
import { requestHolds } from './request.ts';
import { RuleIndex } from './rule-index.ts';

/** The policies that hold for a workload, and those that should but are not known or not understood. */
export interface ApplicablePolicies {
  readonly policies: readonly AuthorizationPolicy[];
  readonly missing: readonly PolicyKey[];
  readonly undecodable: readonly PolicyKey[];
}

/** What lets a connection through; later steps and the log name it. */
export interface Permit {
  readonly by: 'no-allow-policy' | PolicyKey;
}

export interface Denial {
  readonly reason:
    | 'explicit-deny'
    | 'no-allow-matched'
    | 'missing-policy'
    | 'undecodable-policy'
    | 'needs-request';
  /** The policy that decided; for `no-allow-matched` the first of those that allow something else. */
  readonly policy: PolicyKey;
  readonly message: string;
}

/** What a policy in dry run would have decided. */
export interface DryRun {
  readonly policy: PolicyKey;
  readonly would: 'allow' | 'deny';
}

export type Decision = Verdict & {
  readonly dryRun: readonly DryRun[];
  /** The AUDIT policies that ask for this one to be told. */
  readonly audited: readonly PolicyKey[];
};

type Verdict =
  | { readonly verdict: 'allow'; readonly permit: Permit }
  | { readonly verdict: 'deny'; readonly denial: Denial };

/**
 * Judges a connection, or a request on it, in Istio's order: DENY, then ALLOW. What cannot be judged never opens
 * anything: a missing or undecodable policy denies; an ALLOW rule that asks for something of the request
 * does not match; a DENY (or CUSTOM) rule that does is taken without those parts, so it denies more, not less.
 * CUSTOM policies come first in Istio's order: `asked` says that their authorizer has let this pass already.
 */
export function authorize(
  applicable: ApplicablePolicies,
  facts: ConnectionFacts,
  custom: 'refuse' | 'asked' = 'refuse',
): Decision {
  const [missing] = applicable.missing;
  if (missing !== undefined) {
    const message = `policy ${missing} holds here but has not arrived`;
    return { ...denied('missing-policy', missing, message), ...nothingElse };
  }
  const [undecodable] = applicable.undecodable;
  if (undecodable !== undefined) {
    const message = `policy ${undecodable} could not be read`;
    return { ...denied('undecodable-policy', undecodable, message), ...nothingElse };
  }
  const parts = partsOf(applicable);
  const verdict = judge(parts, facts, custom);
  if (parts.rehearsed.length + parts.auditing.length === 0) return { ...verdict, ...nothingElse };
  return {
    ...verdict,
    dryRun: parts.rehearsed.flatMap((policy) => rehearse(policy, facts)),
    audited: parts.auditing
      .filter((policy) => policy.rules.some((rule) => ruleHolds(rule, facts, 'narrow')))
      .map(({ namespace, name }) => policyKey(namespace, name)),
  };
}

const nothingElse: Pick<Decision, 'dryRun' | 'audited'> = { dryRun: [], audited: [] };

/** The policies by what they are for; sorted out once for each set of them. */
interface Parts {
  readonly denying: PolicySet;
  readonly allowing: PolicySet;
  readonly auditing: readonly AuthorizationPolicy[];
  readonly rehearsed: readonly AuthorizationPolicy[];
}

/** A set that is asked time and again gets an index; one that was made for a single connection is not worth one. */
class PolicySet {
  readonly policies: readonly AuthorizationPolicy[];
  #asked = 0;
  #index: RuleIndex | undefined;

  constructor(policies: readonly AuthorizationPolicy[]) {
    this.policies = policies;
  }

  first(
    facts: ConnectionFacts,
    isMeant: (policy: AuthorizationPolicy) => boolean,
    unknowable: Unknowable,
  ): AuthorizationPolicy | undefined {
    this.#asked += 1;
    if (this.#asked > asksWorthAnIndex && this.policies.length > policiesWorthAnIndex) {
      this.#index ??= new RuleIndex(this.policies);
      return this.#index.first(
        facts,
        ({ policy, rule }) => isMeant(policy) && ruleHolds(rule, facts, unknowable),
      );
    }
    return this.policies.find(
      (policy) =>
        isMeant(policy) && policy.rules.some((rule) => ruleHolds(rule, facts, unknowable)),
    );
  }
}
const asksWorthAnIndex = 3;
const policiesWorthAnIndex = 4;

/** The CUSTOM policies that are enforced here, of which each request that matches one is asked about. */
export function customPolicies({ policies }: ApplicablePolicies): readonly AuthorizationPolicy[] {
  return policies.filter(({ action, dryRun }) => action === 'CUSTOM' && !dryRun);
}

/** The first of some CUSTOM policies that asks about this. */
export function firstAsking(
  policies: readonly AuthorizationPolicy[],
  facts: ConnectionFacts,
): AuthorizationPolicy | undefined {
  return policies.find(({ rules }) => rules.some((rule) => ruleHolds(rule, facts, 'widen')));
}

const sortedOut = new WeakMap<ApplicablePolicies, Parts>();

function partsOf(applicable: ApplicablePolicies): Parts {
  let parts = sortedOut.get(applicable);
  if (parts !== undefined) return parts;
  const enforced = applicable.policies.filter((policy) => !policy.dryRun);
  parts = {
    denying: new PolicySet(
      enforced.filter(({ action }) => action === 'DENY' || action === 'CUSTOM'),
    ),
    allowing: new PolicySet(enforced.filter(({ action }) => action === 'ALLOW')),
    auditing: enforced.filter(({ action }) => action === 'AUDIT'),
    rehearsed: applicable.policies.filter((policy) => policy.dryRun),
  };
  sortedOut.set(applicable, parts);
  return parts;
}

function judge(
  { denying, allowing }: Parts,
  facts: ConnectionFacts,
  custom: 'refuse' | 'asked',
): Verdict {
  const denies = denying.first(facts, custom === 'asked' ? isNoCustom : isAny, 'widen');
  if (denies !== undefined) {
    const key = policyKey(denies.namespace, denies.name);
    return denies.action === 'DENY'
      ? denied('explicit-deny', key, `denied by policy ${key}`)
      : denied(
          'needs-request',
          key,
          `policy ${key} asks an external authorizer, which only a waypoint can`,
        );
  }
  const [first] = allowing.policies;
  if (first === undefined) return { verdict: 'allow', permit: { by: 'no-allow-policy' } };
  const allows = allowing.first(facts, isAny, 'narrow');
  if (allows !== undefined) {
    return { verdict: 'allow', permit: { by: policyKey(allows.namespace, allows.name) } };
  }
  const key = policyKey(first.namespace, first.name);
  const count = allowing.policies.length;
  const others = count === 1 ? key : `${key} and ${count - 1} more`;
  return denied('no-allow-matched', key, `allow policies exist, but none allowed (${others})`);
}

const isAny = (): boolean => true;
const isNoCustom = ({ action }: AuthorizationPolicy): boolean => action !== 'CUSTOM';

function denied(
  reason: Denial['reason'],
  policy: PolicyKey,
  message: string,
): { readonly verdict: 'deny'; readonly denial: Denial } {
  return { verdict: 'deny', denial: { reason, policy, message } };
}

function rehearse(policy: AuthorizationPolicy, facts: ConnectionFacts): DryRun[] {
  const key = policyKey(policy.namespace, policy.name);
  switch (policy.action) {
    case 'DENY':
    case 'CUSTOM':
      return policy.rules.some((rule) => ruleHolds(rule, facts, 'widen'))
        ? [{ policy: key, would: 'deny' }]
        : [];
    case 'ALLOW':
      return [
        {
          policy: key,
          would: policy.rules.some((rule) => ruleHolds(rule, facts, 'narrow')) ? 'allow' : 'deny',
        },
      ];
    case 'AUDIT':
      return [];
    default:
      return assertNever(policy.action);
  }
}

/** What becomes of a match that needs a request: `narrow` makes it fail, `widen` leaves it out. */
type Unknowable = 'narrow' | 'widen';

/**
 * Whose connection it is: the peer's, and that of whom the peer speaks for. A rule may name either, and each is asked
 * alone, so that the namespace of one and the account of the other do not make a third. A rule that denies does so
 * where it would deny one of the two: an exception is only for who bears it. A rule that allows must mean one of
 * the two, and neither may be excluded by it.
 */
function ruleHolds(rule: Rule, facts: ConnectionFacts, unknowable: Unknowable): boolean {
  const { sourceIdentity: peer, originIdentity: origin } = facts;
  if (origin === undefined) return ruleHoldsAs(rule, { facts, named: peer }, unknowable);
  const excluding = unknowable === 'narrow';
  return (
    ruleHoldsAs(rule, { facts, named: peer, also: excluding ? origin : undefined }, unknowable) ||
    ruleHoldsAs(rule, { facts, named: origin, also: excluding ? peer : undefined }, unknowable)
  );
}

function ruleHoldsAs(rule: Rule, as: Speaker, unknowable: Unknowable): boolean {
  return (
    anyClause(rule.from, as, unknowable) &&
    anyClause(rule.to, as, unknowable) &&
    clauseHolds(rule.when, as, unknowable)
  );
}

/** A connection as that of one identity. */
interface Speaker {
  readonly facts: ConnectionFacts;
  readonly named: SpiffeIdentity | undefined;
  /** Whom a rule may not exclude either. */
  readonly also?: SpiffeIdentity | undefined;
}

function anyClause(clauses: readonly Clause[], as: Speaker, unknowable: Unknowable): boolean {
  return clauses.length === 0 || clauses.some((clause) => clauseHolds(clause, as, unknowable));
}

/** Whether all of a clause holds; what cannot be known does not. */
export function clauseApplies(clause: Clause, facts: ConnectionFacts): boolean {
  return ruleHolds({ from: [], to: [], when: clause }, facts, 'narrow');
}

function clauseHolds(clause: Clause, as: Speaker, unknowable: Unknowable): boolean {
  return clause.every((match) => matchHolds(match, as, unknowable));
}

function matchHolds(match: Match, as: Speaker, unknowable: Unknowable): boolean {
  const { facts } = as;
  switch (match.kind) {
    case 'connection':
      return connectionHolds(match, as);
    case 'address': {
      const ip = addressOf(match.attribute, facts);
      return holds(match.values, match.notValues, (range) => cidrContains(range, ip));
    }
    case 'port':
      return holds(match.values, match.notValues, (port) => port === facts.destinationPort);
    case 'request':
      return facts.request === undefined
        ? unknowable === 'widen'
        : requestHolds(match.attribute, match, facts.request, unknowable);
    default:
      return assertNever(match);
  }
}

function connectionHolds(
  { attribute, values, notValues }: Extract<Match, { readonly kind: 'connection' }>,
  { facts, named, also }: Speaker,
): boolean {
  if (attribute === 'connection.sni') {
    return (values.length === 0 || isOneOf(values, facts.sni)) && !isOneOf(notValues, facts.sni);
  }
  return (
    (values.length === 0 || isOneOf(values, identityValue(attribute, named))) &&
    !isOneOf(notValues, identityValue(attribute, named)) &&
    (also === undefined || !isOneOf(notValues, identityValue(attribute, also)))
  );
}

function isOneOf(patterns: readonly StringPattern[], value: string | undefined): boolean {
  if (value === undefined) return false;
  for (const pattern of patterns) if (patternMatches(pattern, value)) return true;
  return false;
}

function holds<T>(
  values: readonly T[],
  notValues: readonly T[],
  matches: (value: T) => boolean,
): boolean {
  return (values.length === 0 || values.some(matches)) && !notValues.some(matches);
}

function addressOf(
  attribute: 'source.ip' | 'remote.ip' | 'destination.ip',
  facts: ConnectionFacts,
): IpAddress {
  if (attribute === 'destination.ip') return facts.destinationIp;
  return attribute === 'remote.ip' ? (facts.remoteIp ?? facts.sourceIp) : facts.sourceIp;
}

function identityValue(
  attribute: Exclude<ConnectionAttribute, 'connection.sni'>,
  identity: SpiffeIdentity | undefined,
): string | undefined {
  if (identity === undefined) return undefined;
  const { uri, namespace, serviceAccount } = identity;
  switch (attribute) {
    case 'source.principal':
      return uri.slice('spiffe://'.length);
    case 'source.namespace':
      return namespace;
    case 'source.serviceAccount':
      return `${namespace}/${serviceAccount}`;
    default:
      return assertNever(attribute);
  }
}
