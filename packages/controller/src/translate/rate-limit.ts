import type { Clause, Match, RateLimit, RateLimitKey, RateLimitPolicy } from '@ambit/api';
import { dryRunAnnotation } from '@ambit/api';

import type { RateLimitPolicyRecord } from '../kube/decode/configuration.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { RateLimitSpec } from '../resources/rate-limit-policy.ts';
import { durationMs } from './duration.ts';
import type { Compilation } from './match.ts';
import { requestMatch } from './match.ts';
import { compileTargets } from './targets.ts';
import type { ClusterFacts } from './workload.ts';

export interface CompiledRateLimitPolicy {
  /** Undefined for one that could not be read, or that is attached to nothing. */
  readonly policy: RateLimitPolicy | undefined;
  readonly problems: readonly Problem[];
}

/** A limit of which something cannot be understood is told and left out; the others hold. */
export function compileRateLimitPolicy(
  record: RateLimitPolicyRecord,
  cluster: ClusterFacts,
): CompiledRateLimitPolicy {
  const { meta } = record;
  const problems: Problem[] = [...record.problems];
  const object = `RateLimitPolicy ${objectKey(meta)}`;
  const report = (field: string, message: string): void => {
    problems.push({ object, field, message });
  };
  if (!record.spec.ok) return { policy: undefined, problems };
  const { targetRefs = [], limits = [] } = record.spec.value;
  if (targetRefs.length === 0) report('spec.targetRefs', 'is empty: name the Service or Gateway');
  if (limits.length === 0) report('spec.limits', 'is empty: nothing is limited');
  const dryRun = meta.annotations.get(dryRunAnnotation);
  if (dryRun !== undefined && dryRun !== 'true' && dryRun !== 'false') {
    report(`metadata.annotations[${dryRunAnnotation}]`, 'must be true or false; it is enforced');
  }
  const names = new Set<string>();
  const policy: RateLimitPolicy = {
    name: meta.name,
    namespace: meta.namespace,
    targets: compileTargets({ targetRefs }, meta.namespace, cluster, report),
    dryRun: dryRun === 'true',
    limits: limits.flatMap((limit, index) => {
      const path = `spec.limits[${index}]`;
      if (names.has(limit.name)) {
        report(
          `${path}.name`,
          `${JSON.stringify(limit.name)} is there twice; this one is left out`,
        );
        return [];
      }
      names.add(limit.name);
      return compileLimit(limit, path, meta.namespace, report) ?? [];
    }),
  };
  return { policy: policy.targets.length === 0 ? undefined : policy, problems };
}

type Report = (field: string, message: string) => void;

function compileLimit(
  spec: RateLimitSpec,
  path: string,
  namespace: string,
  report: Report,
): RateLimit | undefined {
  const { name, requests, per, burst = requests, match = {} } = spec;
  const problems: string[] = [];
  const fail: Report = (field, message) => {
    problems.push(field);
    report(field, `${message}; this limit is left out`);
  };
  if (burst < 1) fail(`${path}.burst`, 'must be 1 or more');
  const key = keyOf(spec, path, fail);
  const compilation: Compilation = {
    namespace,
    whenUnsure: 'no-match',
    report: fail,
    usesRequest: () => undefined,
  };
  const when = conditionsOf(match, `${path}.match`, compilation);
  if (problems.length > 0 || when === 'never' || key === undefined) return undefined;
  const { routes = [] } = match;
  const perMs = durationMs(per) ?? 1000;
  return { name, when, routes, key, requests, perMs, burst };
}

function keyOf({ key = {} }: RateLimitSpec, path: string, fail: Report): RateLimitKey | undefined {
  const { type = 'None', header = '' } = key;
  if (type !== 'Header' && header !== '') fail(`${path}.key.header`, 'is for type Header only');
  switch (type) {
    case 'None':
      return { kind: 'none' };
    case 'ClientIdentity':
      return { kind: 'client-identity' };
    case 'SourceNamespace':
      return { kind: 'source-namespace' };
    case 'RemoteAddress':
      return { kind: 'remote-address' };
    case 'Header':
      if (/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/.test(header))
        return { kind: 'header', name: header.toLowerCase() };
      fail(`${path}.key.header`, 'must name a header');
      return undefined;
  }
}

function conditionsOf(
  match: NonNullable<RateLimitSpec['match']>,
  path: string,
  compilation: Compilation,
): Clause | 'never' {
  const written = (values: readonly string[] | undefined, valuesPath: string) => ({
    values,
    notValues: undefined,
    valuesPath,
    notValuesPath: valuesPath,
  });
  const all = [
    requestMatch({ kind: 'path' }, written(match.paths, `${path}.paths`), compilation),
    requestMatch({ kind: 'method' }, written(match.methods, `${path}.methods`), compilation),
    ...(match.headers ?? []).map(({ name, values }, index) =>
      requestMatch(
        { kind: 'header', name: name.toLowerCase() },
        written(values ?? ['*'], `${path}.headers[${index}].values`),
        compilation,
      ),
    ),
  ];
  if (all.includes('never')) return 'never';
  return all.filter((one): one is Match => typeof one !== 'string');
}
