import { isDeepStrictEqual } from 'node:util';

import type { ServiceKey } from '@ambit/api';

import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { hostsOfRule, saysNothing } from '../translate/destination-rule.ts';
import type { Rivals } from '../translate/destination-rule-rivals.ts';
import { ownerOf, rivalProblems } from '../translate/destination-rule-rivals.ts';
import { isExportedTo } from '../translate/export-to.ts';
import type { Binding } from '../translate/waypoint.ts';
import { mostSpecific } from '../translate/wildcard-host.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import type { RulesOf } from './route-outputs.ts';
import { only } from './version.ts';

/** To what a service is bound. */
type BindingOfService = (read: Reader, service: ServiceKey) => Binding | undefined;

interface RuleParts {
  readonly rootNamespace: string;
  /** With the indexes `place` by `placesOf` and `wildcard` by namespace. */
  readonly rules: Collection<CompiledDestinationRule>;
  readonly bindingOfService: BindingOfService;
}

/** The rules of a service that its waypoint may use: the owner's own, else those of the mesh. Nobody else has a say. */
export function rulesOfService({ rules, rootNamespace, bindingOfService }: RuleParts): RulesOf {
  return (read, service, namespace) => {
    const client = clientOf(bindingOfService(read, service), namespace);
    const own = rulesFrom(read, rules, { service, from: namespace, client });
    return own.length > 0 ? own : rulesFrom(read, rules, { service, from: rootNamespace, client });
  };
}

/** The rules of one namespace that a client of the service may use: of those that name it, else of the longest wildcard. */
function rulesFrom(
  read: Reader,
  rules: Collection<CompiledDestinationRule>,
  of: RuleQuestion,
): readonly CompiledDestinationRule[] {
  return mostSpecific(candidates(read, rules, of), of.service, hostsOfRule);
}

/** Which rules are asked for. */
interface RuleQuestion {
  readonly service: ServiceKey;
  /** The namespace of the rules. */
  readonly from: string;
  readonly client: string;
  /** One that takes the place of what is stored of it, if it is from there. */
  readonly judged?: CompiledDestinationRule;
}

/** With wildcards that may cover other services. */
function candidates(
  read: Reader,
  rules: Collection<CompiledDestinationRule>,
  { service, from, client, judged }: RuleQuestion,
): readonly CompiledDestinationRule[] {
  const all = new Set([
    ...read.find(rules, 'place', `${service} ${from}`),
    ...read.find(rules, 'wildcard', from),
  ]);
  const known = judged?.namespace === from ? withJudged([...all], judged) : [...all];
  return known.filter(({ exportedTo }) => isExportedTo(exportedTo, client));
}

/** The rules with one as it is judged, which need not be stored yet. */
function withJudged(
  rules: readonly CompiledDestinationRule[],
  judged: CompiledDestinationRule,
): readonly CompiledDestinationRule[] {
  return [...rules.filter(({ key }) => key !== judged.key), judged];
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
  /** As they were compiled, with an index `place` by `placeOf`. */
  readonly rules: Collection<CompiledDestinationRule>;
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

function rivalsOf(
  read: Reader,
  rule: CompiledDestinationRule,
  { rules, rootNamespace, bindingOfService }: Parts,
): Rivals {
  const { service, namespace } = rule;
  const owner = ownerOf(rule);
  if (service === undefined && rule.ending !== undefined) {
    const rivals = withJudged(read.find(rules, 'wildcard', namespace), rule).filter(
      (one) => one.ending === rule.ending && coversClients(one, rule),
    );
    return { client: namespace, own: rivals, root: [] };
  }
  if (service === undefined || owner === undefined) return { client: namespace, own: [], root: [] };
  const client = clientOf(bindingOfService(read, service), owner);
  const from = (place: string) =>
    rulesFrom(read, rules, { service, from: place, client, judged: rule });
  if (namespace !== owner && namespace !== rootNamespace) return { client, own: [], root: [] };
  const places = namespace === owner ? [owner] : [owner, rootNamespace];
  const [own = [], root = []] = places.map(from);
  if (!saysNothing(rule)) return { client, own, root };
  const others = [owner, rootNamespace]
    .flatMap((place) => candidates(read, rules, { service, from: place, client }))
    .filter(({ key }) => key !== rule.key);
  const isIdle = mostSpecific(others, service, hostsOfRule).length === 0;
  return { client, own, root, ...(isIdle && { isIdle }) };
}
