import type { Problem } from '../kube/decode/fields.ts';
import type { CompiledDestinationRule } from './destination-rule.ts';
import { inOrder, speaksOfAll } from './destination-rule.ts';
import { isExportedTo } from './export-to.ts';

/** The rules of the same host that have a say besides the one that is judged, which may be among them. */
export interface Rivals {
  /** The namespace of the waypoint that calls the service. Rules that are not exported to it are left out. */
  readonly client: string;
  /** Of the namespace of the service. */
  readonly own: readonly CompiledDestinationRule[];
  /** Of the root namespace, which hold for services without a rule of their own. */
  readonly root: readonly CompiledDestinationRule[];
  /** Set where the rule says nothing and takes the place of no other. */
  readonly isIdle?: true;
}

/** The namespace that a rule's service belongs to, whose rules come first. */
export function ownerOf({ service }: CompiledDestinationRule): string | undefined {
  return service?.split('/')[0];
}

/** What of a rule has no effect because of where it stands or of the rules beside it. */
export function rivalProblems(
  rule: CompiledDestinationRule,
  { client, own, root, isIdle }: Rivals,
  rootNamespace: string,
): readonly Problem[] {
  const owner = ownerOf(rule);
  const told = (field: string, message: string): Problem => ({
    object: `DestinationRule ${rule.key}`,
    field,
    message,
    admissible: true,
  });
  if (isIdle === true) {
    const why = 'is empty, and there are no subsets: the rule changes nothing; add one of the two';
    return [told('spec.trafficPolicy', why)];
  }
  if (owner === undefined) return wildcardProblems(rule, own, rootNamespace, told);
  const isOfOthers = rule.namespace !== owner && rule.namespace !== rootNamespace;
  if (!isOfOthers && !isExportedTo(rule.exportedTo, client)) {
    const who = client === owner ? 'that of the service' : 'that of the waypoint of the service';
    return [told('spec.exportTo', `has no effect without namespace ${client}, ${who}; add it`)];
  }
  if (rule.namespace === owner) return olderProblems(rule, own, told);
  if (isOfOthers) {
    return [
      told('spec.host', `has no effect on a service of namespace ${owner}; put the rule there`),
    ];
  }
  const [first] = inOrder(own);
  if (first === undefined) return olderProblems(rule, root, told);
  return [
    told(
      'spec.host',
      `has no effect, DestinationRule ${first.key} of the namespace of the service holds instead; merge them`,
    ),
  ];
}

/** A wildcard covers the services of its own namespace, or all of them in the root's. */
function wildcardProblems(
  rule: CompiledDestinationRule,
  rivals: readonly CompiledDestinationRule[],
  rootNamespace: string,
  told: (field: string, message: string) => Problem,
): readonly Problem[] {
  if (rule.ending === undefined) return [];
  const named = /(?:^|\.)([a-z0-9-]+)\.svc\./.exec(rule.ending)?.[1];
  if (named === undefined || named === rule.namespace || rule.namespace === rootNamespace) {
    return olderProblems(rule, rivals, told);
  }
  return [told('spec.host', `has no effect on services of namespace ${named}; put the rule there`)];
}

function olderProblems(
  rule: CompiledDestinationRule,
  all: readonly CompiledDestinationRule[],
  told: (field: string, message: string) => Problem,
): readonly Problem[] {
  if (all.length < 2) return [];
  const ordered = inOrder(all);
  const before = ordered.slice(
    0,
    ordered.findIndex(({ key }) => key === rule.key),
  );
  const problems: Problem[] = [];
  const speaking = before.find(speaksOfAll);
  if (speaking !== undefined && speaksOfAll(rule)) {
    problems.push(
      told(
        'spec.trafficPolicy',
        `is not used, DestinationRule ${speaking.key} of the same host ${precedence(speaking, rule)}; merge them`,
      ),
    );
  }
  const definedBy = new Map<string, CompiledDestinationRule>();
  for (const one of before.toReversed()) {
    for (const { name } of one.subsets) definedBy.set(name, one);
  }
  for (const [index, { name }] of rule.subsets.entries()) {
    const first = name === '' ? undefined : definedBy.get(name);
    if (first === undefined) continue;
    problems.push(
      told(
        `spec.subsets[${index}].name`,
        `subset ${name} is already defined by DestinationRule ${first.key}, which ${precedence(first, rule)}; rename or remove it`,
      ),
    );
  }
  return problems;
}

function precedence(first: CompiledDestinationRule, rule: CompiledDestinationRule): string {
  return first.createdAtMs < rule.createdAtMs ? 'is older' : 'is as old and comes first by name';
}
