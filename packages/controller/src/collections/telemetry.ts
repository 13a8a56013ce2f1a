import { isDeepStrictEqual } from 'node:util';

import type { Upsert } from '@ambit/api';

import type { TelemetryRecord } from '../kube/decode/configuration.ts';
import { defaultMeshConfig } from '../translate/mesh-config.ts';
import type { CompiledTelemetry } from '../translate/telemetry.ts';
import { compileTelemetry } from '../translate/telemetry.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph } from './derived.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

/** From Telemetry resources to what waypoints are told. */
export function telemetryStages({
  graph,
  sources,
  cluster,
  noted,
}: {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  readonly noted: <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;
}): { readonly telemetries: Collection<CompiledTelemetry>; readonly output: Collection<Upsert> } {
  const meshConfigKey = `${cluster.rootNamespace}/istio`;
  const telemetries = noted(
    'compiled-telemetries',
    graph.derive<TelemetryRecord, CompiledTelemetry>({
      name: 'compiled-telemetries',
      primary: sources.telemetries,
      derive: (record, key, read) => {
        const { providers } = read.get(sources.meshConfig, meshConfigKey) ?? defaultMeshConfig;
        const wide = read.find(sources.telemetries, 'wide', record.meta.namespace);
        const [oldest] = [...wide].sort(
          (left, right) =>
            left.meta.createdAtMs - right.meta.createdAtMs ||
            (left.meta.name < right.meta.name ? -1 : 1),
        );
        return only(
          key,
          compileTelemetry(record, {
            ...cluster,
            provider: (name) => providers.find((one) => one.name === name),
            firstOfNamespace: oldest?.meta.name,
          }),
        );
      },
      equal: isDeepStrictEqual,
    }),
  );
  const output = graph.derive<CompiledTelemetry, Upsert>({
    name: 'telemetry-output',
    primary: telemetries,
    derive: ({ telemetry: resource }, key) =>
      resource === undefined
        ? new Map<string, Upsert>()
        : only(key, { type: 'telemetry', name: key, version: versionOf(resource), resource }),
    equal: sameVersion,
  }).output;
  return { telemetries, output };
}
