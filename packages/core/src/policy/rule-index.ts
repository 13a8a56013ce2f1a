import type { AuthorizationPolicy, Clause, Match, Rule, StringPattern } from '@ambit/api';
import { PrefixIndex } from '../text/prefix-index.ts';
import type { ConnectionFacts } from './facts.ts';

/** A rule and its policy's place among the others. */
export interface PlacedRule {
  readonly order: number;
  readonly policy: AuthorizationPolicy;
  readonly rule: Rule;
}

type Holds = (placed: PlacedRule) => boolean;

/**
 * The rules of many policies, found by what they ask first: a path, a principal or a namespace. A rule that names
 * neither is looked at each time, and so is each that is found: the index only leaves out what cannot hold.
 */
export class RuleIndex {
  readonly #all: readonly PlacedRule[];
  readonly #paths: PrefixIndex<PlacedRule>;
  readonly #principals = new Map<string, PlacedRule[]>();
  readonly #namespaces = new Map<string, PlacedRule[]>();
  readonly #others: PlacedRule[] = [];

  constructor(policies: readonly AuthorizationPolicy[]) {
    this.#all = policies.flatMap((policy, order) =>
      policy.rules.map((rule) => ({ order, policy, rule })),
    );
    const byPath: { value: string; kind: 'exact' | 'prefix'; item: PlacedRule }[] = [];
    for (const item of this.#all) {
      const paths = asked(item.rule, 'to', isPath);
      if (paths !== undefined) {
        for (const { value, kind } of paths) byPath.push({ value, kind, item });
      } else if (!this.#addByCaller(item)) this.#others.push(item);
    }
    this.#paths = new PrefixIndex(byPath);
  }

  #addByCaller(item: PlacedRule): boolean {
    const principals = exactOnly(asked(item.rule, 'from', isPrincipal));
    if (principals !== undefined) {
      for (const value of principals) append(this.#principals, `spiffe://${value}`, item);
      return true;
    }
    const namespaces = exactOnly(asked(item.rule, 'from', isNamespace));
    for (const value of namespaces ?? []) append(this.#namespaces, value, item);
    return namespaces !== undefined;
  }

  /** The first policy, in the order in which they were given, of which a rule holds. */
  first(facts: ConnectionFacts, holds: Holds): AuthorizationPolicy | undefined {
    let best: PlacedRule | undefined;
    const look = (items: readonly PlacedRule[] | undefined): void => {
      for (const item of items ?? []) {
        if (best !== undefined && item.order >= best.order) return;
        if (!holds(item)) continue;
        best = item;
        return;
      }
    };
    // What a rule asks of a request is left open where there is none.
    if (facts.request === undefined) look(this.#all);
    else {
      look(this.#others);
      this.#paths.visit(facts.request.path, look);
      for (const identity of [facts.sourceIdentity, facts.originIdentity]) {
        if (identity === undefined) continue;
        look(this.#principals.get(identity.uri));
        look(this.#namespaces.get(identity.namespace));
      }
    }
    return best?.policy;
  }
}

type ExactOrPrefix = Extract<StringPattern, { readonly kind: 'exact' | 'prefix' | 'suffix' }> & {
  readonly kind: 'exact' | 'prefix';
};
type Pick = (match: Match) => readonly StringPattern[] | undefined;

/** The values of which a rule needs one, if it needs one of some that can be looked up. */
function asked(rule: Rule, part: 'from' | 'to', pick: Pick): readonly ExactOrPrefix[] | undefined {
  const always = ofClause(rule.when, pick);
  if (always !== undefined) return always;
  const clauses = rule[part];
  if (clauses.length === 0) return undefined;
  const values: ExactOrPrefix[] = [];
  for (const clause of clauses) {
    const own = ofClause(clause, pick);
    if (own === undefined) return undefined;
    values.push(...own);
  }
  return values;
}

function ofClause(clause: Clause, pick: Pick): readonly ExactOrPrefix[] | undefined {
  for (const match of clause) {
    const values = pick(match) ?? [];
    if (values.length > 0 && values.every(canBeLookedUp)) return values;
  }
  return undefined;
}

function canBeLookedUp(pattern: StringPattern): pattern is ExactOrPrefix {
  return pattern.kind === 'exact' || pattern.kind === 'prefix';
}

function isPath(match: Match): readonly StringPattern[] | undefined {
  return match.kind === 'request' && match.attribute.kind === 'path' ? match.values : undefined;
}

function isPrincipal(match: Match): readonly StringPattern[] | undefined {
  return match.kind === 'connection' && match.attribute === 'source.principal'
    ? match.values
    : undefined;
}

function isNamespace(match: Match): readonly StringPattern[] | undefined {
  return match.kind === 'connection' && match.attribute === 'source.namespace'
    ? match.values
    : undefined;
}

function exactOnly(patterns: readonly ExactOrPrefix[] | undefined): readonly string[] | undefined {
  if (patterns?.every(({ kind }) => kind === 'exact') !== true) return undefined;
  return patterns.map(({ value }) => value);
}

function append<K>(into: Map<K, PlacedRule[]>, key: K, item: PlacedRule): void {
  const list = into.get(key);
  if (list === undefined) into.set(key, [item]);
  else list.push(item);
}
