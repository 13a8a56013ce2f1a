import { isDeepStrictEqual } from 'node:util';

import type { Upsert } from '@ambit/api';

import type { RateLimitPolicyRecord } from '../kube/decode/configuration.ts';
import type { CompiledRateLimitPolicy } from '../translate/rate-limit.ts';
import { compileRateLimitPolicy } from '../translate/rate-limit.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph } from './derived.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly noted: <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;
}

export interface RateLimitCollections {
  readonly compiled: Collection<CompiledRateLimitPolicy>;
  readonly output: Collection<Upsert>;
}

export function rateLimitStages({ graph, sources, cluster, noted }: Parts): RateLimitCollections {
  const compiled = noted(
    'rate-limits',
    graph.derive<RateLimitPolicyRecord, CompiledRateLimitPolicy>({
      name: 'rate-limits',
      primary: sources.rateLimitPolicies,
      derive: (record, key) => only(key, compileRateLimitPolicy(record, cluster)),
      equal: isDeepStrictEqual,
    }),
  );
  const { output } = graph.derive<CompiledRateLimitPolicy, Upsert>({
    name: 'rate-limit-output',
    primary: compiled,
    derive: ({ policy: resource }, key) =>
      resource === undefined
        ? new Map<string, Upsert>()
        : only(key, { type: 'rate-limit', name: key, version: versionOf(resource), resource }),
    equal: sameVersion,
  });
  return { compiled, output };
}
