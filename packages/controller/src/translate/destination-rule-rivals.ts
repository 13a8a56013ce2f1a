import type { Problem } from '../kube/decode/fields.ts';
import type { Aged } from './age.ts';
import { isOlder } from './age.ts';
import type { CompiledDestinationRule } from './destination-rule.ts';
import { speaksOfAll } from './destination-rule.ts';
import { isExportedTo } from './export-to.ts';

/** The rules that have a say besides the one that is judged, each asked for only where it matters. */
export interface Rivals {
  /** The namespace of the waypoint that calls the service. Rules that are not exported to it are left out. */
  readonly client: string;
  /** The first that holds for the service instead, of its own namespace, where the rule is of the root's. */
  instead(): Pick<CompiledDestinationRule, 'key'> | undefined;
  /** Of the others of the same host and namespace the oldest that speaks of all. */
  speaking(): Aged | undefined;
  /** The oldest of those that has a subset of the name. */
  defining(subset: string): Aged | undefined;
  /** Whether the rule takes the place of no other. */
  isAlone(): boolean;
}

/** The namespace that a rule's service belongs to, whose rules come first. */
export function ownerOf({ service }: CompiledDestinationRule): string | undefined {
  return service?.split('/')[0];
}

/** What of a rule has no effect because of where it stands or of the rules beside it. */
export function rivalProblems(
  rule: CompiledDestinationRule,
  rivals: Rivals,
  rootNamespace: string,
): readonly Problem[] {
  const owner = ownerOf(rule);
  const told = (field: string, message: string): Problem => ({
    object: `DestinationRule ${rule.key}`,
    field,
    message,
    admissible: true,
  });
  if (owner === undefined) return wildcardProblems(rule, rivals, rootNamespace, told);
  const isOfOthers = rule.namespace !== owner && rule.namespace !== rootNamespace;
  if (!isOfOthers && saysNothing(rule) && rivals.isAlone()) {
    const why = 'is empty, and there are no subsets: the rule changes nothing; add one of the two';
    return [told('spec.trafficPolicy', why)];
  }
  const { client } = rivals;
  if (!isOfOthers && !isExportedTo(rule.exportedTo, client)) {
    const who = client === owner ? 'that of the service' : 'that of the waypoint of the service';
    return [told('spec.exportTo', `has no effect without namespace ${client}, ${who}; add it`)];
  }
  if (rule.namespace === owner) return olderProblems(rule, rivals, told);
  if (isOfOthers) {
    return [
      told('spec.host', `has no effect on a service of namespace ${owner}; put the rule there`),
    ];
  }
  const first = rivals.instead();
  if (first === undefined) return olderProblems(rule, rivals, told);
  return [
    told(
      'spec.host',
      `has no effect, DestinationRule ${first.key} of the namespace of the service holds instead; merge them`,
    ),
  ];
}

/** Whether a rule leaves everything as it is, but for the rules whose place it takes. */
function saysNothing({ own, subsets, problems }: CompiledDestinationRule): boolean {
  if (subsets.length > 0 || problems.some((one) => one.admissible !== true)) return false;
  return own === undefined || (Object.keys(own.whole).length === 0 && own.ports.length === 0);
}

/** A wildcard covers the services of its own namespace, or all of them in the root's. */
function wildcardProblems(
  rule: CompiledDestinationRule,
  rivals: Rivals,
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
  { speaking, defining }: Pick<Rivals, 'speaking' | 'defining'>,
  told: (field: string, message: string) => Problem,
): readonly Problem[] {
  const older = (one: Aged | undefined): Aged | undefined =>
    one !== undefined && isOlder(one, rule) ? one : undefined;
  const problems: Problem[] = [];
  const first = speaksOfAll(rule) ? older(speaking()) : undefined;
  if (first !== undefined) {
    problems.push(
      told(
        'spec.trafficPolicy',
        `is not used, DestinationRule ${first.key} of the same host ${precedence(first, rule)}; merge them`,
      ),
    );
  }
  for (const [index, { name }] of rule.subsets.entries()) {
    const definer = name === '' ? undefined : older(defining(name));
    if (definer === undefined) continue;
    problems.push(
      told(
        `spec.subsets[${index}].name`,
        `subset ${name} is already defined by DestinationRule ${definer.key}, which ${precedence(definer, rule)}; rename or remove it`,
      ),
    );
  }
  return problems;
}

function precedence(first: Aged, rule: Aged): string {
  return first.createdAtMs < rule.createdAtMs ? 'is older' : 'is as old and comes first by name';
}
