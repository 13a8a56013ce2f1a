import { isDeepStrictEqual } from 'node:util';

import type { ServiceKey } from '@ambit/api';

import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import { hostsOfRule } from '../translate/destination-rule.ts';
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
  of: { readonly service: ServiceKey; readonly from: string; readonly client: string },
): readonly CompiledDestinationRule[] {
  const all = new Set([
    ...read.find(rules, 'place', `${of.service} ${of.from}`),
    ...read.find(rules, 'wildcard', of.from),
  ]);
  const usable = [...all].filter(({ exportedTo }) => isExportedTo(exportedTo, of.client));
  return mostSpecific(usable, of.service, hostsOfRule);
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
export function rivalStage(parts: Parts): Collection<CompiledDestinationRule> {
  const { graph, noted, judged, rootNamespace } = parts;
  return noted(
    'rival-destination-rules',
    graph.derive<CompiledDestinationRule, CompiledDestinationRule>({
      name: 'rival-destination-rules',
      primary: judged,
      derive: (rule, key, read) => {
        const rivals = rivalsOf(read, rule, parts);
        const problems = rivalProblems(rule, rivals, rootNamespace);
        if (problems.length === 0) return only(key, rule);
        return only(key, { ...rule, problems: [...rule.problems, ...problems] });
      },
      equal: isDeepStrictEqual,
    }),
  );
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
    const rivals = read
      .find(rules, 'wildcard', namespace)
      .filter((one) => one.ending === rule.ending && coversClients(one, rule));
    return { client: namespace, own: rivals, root: [] };
  }
  if (service === undefined || owner === undefined) return { client: namespace, own: [], root: [] };
  const client = clientOf(bindingOfService(read, service), owner);
  const from = (place: string) => rulesFrom(read, rules, { service, from: place, client });
  if (namespace === owner) return { client, own: from(owner), root: [] };
  if (namespace !== rootNamespace) return { client, own: [], root: [] };
  return { client, own: from(owner), root: from(rootNamespace) };
}
