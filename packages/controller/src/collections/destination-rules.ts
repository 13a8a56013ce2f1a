import { isDeepStrictEqual } from 'node:util';

import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import { ownerOf, rivalProblems } from '../translate/destination-rule-rivals.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import { only } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly rootNamespace: string;
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

function rivalsOf(read: Reader, rule: CompiledDestinationRule, { rules, rootNamespace }: Parts) {
  const { service, namespace } = rule;
  const owner = ownerOf(rule);
  const none = { own: [], root: [] };
  if (service === undefined || owner === undefined) return none;
  const from = (place: string) => read.find(rules, 'place', `${service} ${place}`);
  if (namespace === owner) return { own: from(owner), root: [] };
  if (namespace !== rootNamespace) return none;
  return { own: from(owner), root: from(rootNamespace) };
}
