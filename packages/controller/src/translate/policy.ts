import type {
  AuthorizationPolicy,
  Clause,
  Match,
  PolicyAction,
  PolicyScope,
  Rule,
} from '@ambit/api';
import { dryRunAnnotation } from '@ambit/api';

import type { Problem, Report } from '../kube/decode/fields.ts';
import { field, objectKey, textMap } from '../kube/decode/fields.ts';
import type { PolicyRecord } from '../kube/decode/policy.ts';
import type { AuthorizationPolicySpec, RuleSpec } from '../resources/authorization-policy.ts';
import { compileCondition } from './condition.ts';
import type { Compilation } from './match.ts';
import { compileOperation, compileSource } from './match.ts';
import { compileTargets, readableTargets } from './targets.ts';
import type { ClusterFacts } from './workload.ts';

/** A policy ready to be pushed, and whom it selects. */
export interface CompiledPolicy {
  /** Undefined for a policy that holds for waypoints or services only. */
  readonly policy: AuthorizationPolicy | undefined;
  /** Labels a workload must have; undefined unless the scope is `selected`. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  readonly problems: readonly Problem[];
  /** Attributes of HTTP requests it names, which no node proxy can see. */
  readonly requestFields: readonly string[];
}

/**
 * AuthorizationPolicy as Istio defines it. What cannot be understood never widens access: an ALLOW rule with a
 * malformed part is left out, a DENY rule matches what is left without that part, and a policy that breaks its
 * schema allows or denies nothing less than everything it might have meant.
 */
export function compilePolicy(
  record: PolicyRecord,
  cluster: PolicyCluster,
  authorizers: ReadonlySet<string> = new Set(),
): CompiledPolicy {
  const { meta } = record;
  const { rootNamespace } = cluster;
  const object = `AuthorizationPolicy ${objectKey(meta)}`;
  if (!record.spec.ok) return closedPolicy(record, record.spec.error, cluster);
  const spec = record.spec.value;
  const problems: Problem[] = [];
  const requestFields: string[] = [];
  const action: PolicyAction = spec.action ?? 'ALLOW';
  const report: Report = (path, message, admissible) => {
    problems.push({ object, field: path, message, ...(admissible && { admissible }) });
  };
  const isTargeted = namesTargets(spec);
  if (isTargeted && spec.selector !== undefined) {
    report('spec.targetRefs', 'cannot be combined with spec.selector, which is used; remove one');
  }
  const targeted = isTargeted && spec.selector === undefined;
  const targets = targeted ? compileTargets(spec, meta.namespace, cluster, report) : [];
  const selector = new Map(Object.entries(spec.selector?.matchLabels ?? {}));
  const compilation: Compilation = {
    namespace: meta.namespace,
    whenUnsure: action === 'ALLOW' || action === 'AUDIT' ? 'no-match' : 'match',
    report,
    usesRequest: (path) => requestFields.push(path),
  };
  const policy: AuthorizationPolicy = {
    name: meta.name,
    namespace: meta.namespace,
    action,
    ...providerOf(spec, targeted, authorizers, report),
    scope: targeted
      ? { kind: 'targeted', targets }
      : scopeOf(meta.namespace, selector, rootNamespace),
    dryRun: isDryRun(record, report),
    rules: compileRules(spec, compilation),
  };
  return {
    policy,
    selector: policy.scope.kind === 'selected' ? selector : undefined,
    problems,
    // At a waypoint every attribute of a request can be seen.
    requestFields: targeted ? [] : requestFields,
  };
}

/** The external authorizer of a CUSTOM policy. One that nobody defines is kept by its name, and refuses. */
function providerOf(
  { action, provider }: AuthorizationPolicySpec,
  targeted: boolean,
  authorizers: ReadonlySet<string>,
  report: Report,
): Pick<AuthorizationPolicy, 'provider'> {
  const name = provider?.name ?? '';
  if (action !== 'CUSTOM') {
    if (provider !== undefined) report('spec.provider', 'is for action CUSTOM only; remove it');
    return {};
  }
  if (!targeted) {
    report(
      'spec.action',
      'CUSTOM asks an external authorizer, which only a waypoint can, so ztunnel refuses what matches; use spec.targetRefs',
    );
  }
  if (name === '') {
    report('spec.provider.name', 'must name an extension provider; what matches is refused');
  } else if (!authorizers.has(name)) {
    report(
      'spec.provider.name',
      `no external authorizer is called ${JSON.stringify(name)}; what matches is refused until the mesh's extensionProviders have it`,
      true,
    );
  }
  return { provider: name };
}

function namesTargets({ targetRef, targetRefs = [] }: AuthorizationPolicySpec): boolean {
  return targetRef !== undefined || targetRefs.length > 0;
}

/** What a policy takes from the cluster it is in. */
export type PolicyCluster = Pick<ClusterFacts, 'rootNamespace' | 'clusterDomain'>;

function scopeOf(
  namespace: string,
  selector: ReadonlyMap<string, string>,
  rootNamespace: string,
): PolicyScope {
  if (selector.size > 0) return { kind: 'selected' };
  return namespace === rootNamespace ? { kind: 'mesh' } : { kind: 'namespace' };
}

function isDryRun(record: PolicyRecord, report: Compilation['report']): boolean {
  const value = record.meta.annotations.get(dryRunAnnotation);
  if (value === undefined || value === 'false') return false;
  if (value === 'true') return true;
  report(
    `metadata.annotations[${dryRunAnnotation}]`,
    'must be true or false; the policy is enforced',
  );
  return false;
}

/** A policy that breaks its schema: closed, for whom it can still be read to select. */
function closedPolicy(
  record: PolicyRecord,
  { problems, raw }: { problems: readonly Problem[]; raw: unknown },
  cluster: PolicyCluster,
): CompiledPolicy {
  const { meta } = record;
  const labels = field(raw, 'selector', 'matchLabels');
  const selectorReadable = problems.every((one) => !one.field.startsWith('spec.selector'));
  const selector = selectorReadable ? textMap(labels) : new Map<string, string>();
  const action = field(raw, 'action');
  const allows = action === undefined || action === 'ALLOW';
  const targets = selector.size > 0 ? [] : readableTargets(raw, meta.namespace, cluster);
  const scope: PolicyScope =
    targets.length > 0
      ? { kind: 'targeted', targets }
      : scopeOf(meta.namespace, selector, cluster.rootNamespace);
  return {
    policy: {
      name: meta.name,
      namespace: meta.namespace,
      action: allows ? 'ALLOW' : 'DENY',
      scope,
      dryRun: false,
      rules: allows ? [] : [{ from: [], to: [], when: [] }],
    },
    selector: scope.kind === 'selected' ? selector : undefined,
    problems,
    requestFields: [],
  };
}

function compileRules(spec: AuthorizationPolicySpec, compilation: Compilation): Rule[] {
  const { action = 'ALLOW', rules: written = [] } = spec;
  if (action !== 'ALLOW' && written.length === 0) {
    const why = `is empty, and ${action} without rules holds for nothing; write rules, {} for everything`;
    compilation.report('spec.rules', why);
  }
  const rules: Rule[] = [];
  for (const [index, rule] of written.entries()) {
    const compiled = compileRule(rule, `spec.rules[${index}]`, compilation);
    if (compiled !== undefined) rules.push(compiled);
  }
  return rules;
}

/** Undefined when the rule can never match. */
function compileRule(spec: RuleSpec, path: string, compilation: Compilation): Rule | undefined {
  const from = compileClauses(
    spec.from?.map((one) => one.source ?? {}),
    (source, index) => compileSource(source, `${path}.from[${index}].source`, compilation),
    `${path}.from`,
    compilation,
  );
  const to = compileClauses(
    spec.to?.map((one) => one.operation ?? {}),
    (operation, index) =>
      compileOperation(operation, `${path}.to[${index}].operation`, compilation),
    `${path}.to`,
    compilation,
  );
  const when: Match[] = [];
  for (const [index, condition] of (spec.when ?? []).entries()) {
    const match = compileCondition(condition, `${path}.when[${index}]`, compilation);
    if (match === 'never') return undefined;
    if (match !== 'always') when.push(match);
  }
  return from === 'never' || to === 'never' ? undefined : { from, to, when };
}

/** Some clause must hold: one that always does makes the list empty, none that can makes it impossible. */
function compileClauses<S>(
  specs: readonly S[] | undefined,
  compile: (spec: S, index: number) => Clause | 'never',
  path: string,
  compilation: Compilation,
): readonly Clause[] | 'never' {
  if (specs === undefined) return [];
  if (specs.length === 0) {
    compilation.report(path, 'must not be an empty list; leave it out to match everything');
    return compilation.whenUnsure === 'match' ? [] : 'never';
  }
  const clauses: Clause[] = [];
  for (const [index, spec] of specs.entries()) {
    const clause = compile(spec, index);
    if (clause !== 'never') clauses.push(clause);
  }
  if (clauses.length === 0) return 'never';
  return clauses.some((clause) => clause.length === 0) ? [] : clauses;
}
