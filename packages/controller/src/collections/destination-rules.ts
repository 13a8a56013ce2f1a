import { isDeepStrictEqual } from 'node:util';

import type { ServiceKey } from '@ambit/api';

import type { Aged } from '../translate/age.ts';
import { isOlder } from '../translate/age.ts';
import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { hostsOfRule, inOrder, speaksOfAll } from '../translate/destination-rule.ts';
import type { Rivals } from '../translate/destination-rule-rivals.ts';
import { ownerOf, rivalProblems } from '../translate/destination-rule-rivals.ts';
import { isExportedTo } from '../translate/export-to.ts';
import type { Binding } from '../translate/waypoint.ts';
import { mostSpecific } from '../translate/wildcard-host.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import { byEnding, Matches } from './matches.ts';
import { Oldest } from './oldest.ts';
import type { RulesOf } from './route-outputs.ts';
import { only } from './version.ts';

/** To what a service is bound. */
type BindingOfService = (read: Reader, service: ServiceKey) => Binding | undefined;

interface RuleParts {
  readonly rootNamespace: string;
  readonly rules: RuleFinders;
  readonly bindingOfService: BindingOfService;
}

/** How the rules that hold for a service are found. */
export interface RuleFinders {
  /** With the indexes `place` by `placeOf` and `wildcard` by namespace. */
  readonly all: Collection<CompiledDestinationRule>;
  /** Those of a namespace whose wildcard covers a service. */
  readonly covering: Matches<CompiledDestinationRule, ServiceKey>;
  readonly oldest: Oldest<CompiledDestinationRule>;
}

export function ruleFinders(all: Collection<CompiledDestinationRule>): RuleFinders {
  return {
    all,
    covering: new Matches(
      all,
      byEnding<CompiledDestinationRule>({
        scope: ({ ending, namespace }) => (ending === undefined ? undefined : namespace),
        endings: ({ ending }) => (ending === undefined ? [] : [ending]),
      }),
    ),
    oldest: new Oldest(all, { claims: claimsOf, createdAtMs: ({ createdAtMs }) => createdAtMs }),
  };
}

/** The rules of a service that its waypoint may use: the owner's own, else those of the mesh. Nobody else has a say. */
export function rulesOfService({ rules, rootNamespace, bindingOfService }: RuleParts): RulesOf {
  return (read, service, namespace) => {
    const client = clientOf(bindingOfService(read, service), namespace);
    const own = rulesFrom(read, rules, { service, from: namespace, client });
    return own.length > 0 ? own : rulesFrom(read, rules, { service, from: rootNamespace, client });
  };
}

/** Whether the rules of a service define a subset, which is found without a look at all of them. */
export type SubsetsOf = (
  read: Reader,
  service: ServiceKey,
  namespace: string,
) => (name: string) => boolean;

export function subsetsOfService(parts: RuleParts): SubsetsOf {
  const { rules, rootNamespace, bindingOfService } = parts;
  return (read, service, namespace) => {
    const client = clientOf(bindingOfService(read, service), namespace);
    const isThere = (from: string, saying: Saying): boolean =>
      firstFor(read, rules, { hosts: hostOf(service, from), clients: [client], saying }) !==
      undefined;
    return (name) => {
      for (const from of [namespace, rootNamespace]) {
        if (isThere(from, 'anything')) return isThere(from, `subset ${name}`);
        const covering = rulesFrom(read, rules, { service, from, client });
        if (covering.length > 0)
          return covering.some(({ subsets }) => subsets.some((one) => one.name === name));
      }
      return false;
    };
  };
}

/** Which rules are asked for. */
interface RuleQuestion {
  readonly service: ServiceKey;
  /** The namespace of the rules. */
  readonly from: string;
  readonly client: string;
}

/** The rules of one namespace that a client of the service may use: of those that name it, else of the longest wildcard. */
function rulesFrom(
  read: Reader,
  rules: RuleFinders,
  { service, from, client }: RuleQuestion,
): readonly CompiledDestinationRule[] {
  const usable = [
    ...read.find(rules.all, 'place', `${service} ${from}`),
    ...read.matching(rules.covering, from, service),
  ].filter(({ exportedTo }) => isExportedTo(exportedTo, client));
  return mostSpecific(usable, service, hostsOfRule);
}

/** The namespace that a rule is to be exported to: of the waypoint, or of the service where it has none. */
function clientOf(binding: Binding | undefined, owner: string): string {
  if (binding === undefined || binding.kind === 'none') return owner;
  return binding.gateway.split('/')[0] ?? owner;
}

interface Parts {
  readonly graph: Graph;
  readonly rootNamespace: string;
  readonly bindingOfService: BindingOfService;
  readonly noted: <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;
  /** As they were compiled. */
  readonly rules: RuleFinders;
  /** With what else is wrong with them. */
  readonly judged: Collection<CompiledDestinationRule>;
}

/** Of whose service a rule speaks, and from where: a rule of a stranger is no business of the owner's. */
export function placeOf({ service, namespace }: CompiledDestinationRule): readonly string[] {
  return service === undefined ? [] : [`${service} ${namespace}`];
}

/** The rules with what of them has no effect, to be told; what proxies hold is not made of these. */
export function rivalStage(parts: Parts): {
  readonly rules: Collection<CompiledDestinationRule>;
  /** What of a rule has no effect, also of one that is not stored yet. */
  readonly problemsOf: (read: Reader, rule: CompiledDestinationRule) => readonly Problem[];
} {
  const { graph, noted, judged, rootNamespace } = parts;
  const problemsOf = (read: Reader, rule: CompiledDestinationRule): readonly Problem[] =>
    rivalProblems(rule, rivalsOf(read, rule, parts), rootNamespace);
  const rules = noted(
    'rival-destination-rules',
    graph.derive<CompiledDestinationRule, CompiledDestinationRule>({
      name: 'rival-destination-rules',
      primary: judged,
      derive: (rule, key, read) => {
        const problems = problemsOf(read, rule);
        if (problems.length === 0) return only(key, rule);
        return only(key, { ...rule, problems: [...rule.problems, ...problems] });
      },
      equal: isDeepStrictEqual,
    }),
  );
  return { rules, problemsOf };
}

/** Whoever may use the other may use this one. */
function coversClients(one: CompiledDestinationRule, other: CompiledDestinationRule): boolean {
  return other.exportedTo.every((namespace) => isExportedTo(one.exportedTo, namespace));
}

type Saying = 'anything' | 'of all' | `subset ${string}`;

/** What a rule says of its hosts that others could say, too. */
function sayingsOf(rule: CompiledDestinationRule): readonly Saying[] {
  return [
    'anything',
    ...(speaksOfAll(rule) ? (['of all'] as const) : []),
    ...rule.subsets.map(({ name }): Saying => `subset ${name}`),
  ];
}

/** What a rule says, for each of the clients that it is exported to. */
function claimsOf(rule: CompiledDestinationRule): readonly string[] {
  const hosts = hostsOf(rule);
  if (hosts === undefined) return [];
  const sayings = sayingsOf(rule);
  return rule.exportedTo.flatMap((client) => sayings.map((one) => claimOf(hosts, client, one)));
}

function claimOf(hosts: string, client: string, saying: Saying): string {
  return `${hosts} ${client} ${saying}`;
}

/** Undefined for a rule of no hosts. */
function hostsOf({ service, ending, namespace }: CompiledDestinationRule): string | undefined {
  if (service !== undefined) return hostOf(service, namespace);
  return ending === undefined ? undefined : `*${ending} ${namespace}`;
}

/** A service as rules of a namespace speak of it. */
function hostOf(service: ServiceKey, namespace: string): string {
  return `${service} ${namespace}`;
}

function rivalsOf(read: Reader, rule: CompiledDestinationRule, parts: Parts): Rivals {
  const { rules, rootNamespace, bindingOfService } = parts;
  const { service, namespace } = rule;
  const owner = ownerOf(rule);
  if (service === undefined || owner === undefined) {
    const first = firstOfWildcards(read, rules, rule);
    return {
      client: namespace,
      instead: () => undefined,
      speaking: () => first('of all'),
      defining: (name) => first(`subset ${name}`),
      isAlone: () => false,
    };
  }
  const client = clientOf(bindingOfService(read, service), owner);
  const first = (from: string, saying: Saying): Aged | undefined =>
    firstFor(read, rules, { hosts: hostOf(service, from), clients: [client], saying }, rule.key);
  const isCovered = (from: string): boolean =>
    read
      .matching(rules.covering, from, service)
      .some(({ key, exportedTo }) => key !== rule.key && isExportedTo(exportedTo, client));
  return {
    client,
    instead: () =>
      first(owner, 'anything') ??
      inOrder(rulesFrom(read, rules, { service, from: owner, client }))[0],
    speaking: () => first(namespace, 'of all'),
    defining: (name) => first(namespace, `subset ${name}`),
    isAlone: () =>
      [owner, rootNamespace].every(
        (from) => first(from, 'anything') === undefined && !isCovered(from),
      ),
  };
}

/** What is asked of the rules of some hosts. */
interface RivalQuestion {
  readonly hosts: string;
  /** One at most; those rules are meant, too, that all may use. */
  readonly clients: readonly string[];
  readonly saying: Saying;
}

/** The oldest that says something, or that does so besides `except`. */
function firstFor(
  read: Reader,
  { oldest }: RuleFinders,
  { hosts, clients, saying }: RivalQuestion,
  except?: string,
): Aged | undefined {
  const found = [...new Set(['*', ...clients])].flatMap(
    (client) => read.oldest(oldest, claimOf(hosts, client, saying), except) ?? [],
  );
  return found.reduce<Aged | undefined>(
    (first, one) => (first === undefined || isOlder(one, first) ? one : first),
    undefined,
  );
}

/** Of the wildcards that are the same, for as many clients or more, the oldest that says something. */
function firstOfWildcards(
  read: Reader,
  rules: RuleFinders,
  rule: CompiledDestinationRule,
): (saying: Saying) => Aged | undefined {
  const { ending, namespace, key, exportedTo } = rule;
  const hosts = hostsOf(rule);
  if (hosts === undefined) return () => undefined;
  const clients = exportedTo.includes('*') ? [] : exportedTo;
  // Who may be used by all of several need not be the oldest that one of them may use.
  if (clients.length < 2) return (saying) => firstFor(read, rules, { hosts, clients, saying }, key);
  return (saying) =>
    inOrder(
      read
        .find(rules.all, 'wildcard', namespace)
        .filter((one) => one.ending === ending && one.key !== key && coversClients(one, rule))
        .filter((one) => sayingsOf(one).includes(saying)),
    )[0];
}
