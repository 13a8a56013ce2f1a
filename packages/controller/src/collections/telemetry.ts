import { isDeepStrictEqual } from 'node:util';

import type { Upsert } from '@ambit/api';

import type { TelemetryRecord } from '../kube/decode/configuration.ts';
import { defaultMeshConfig } from '../translate/mesh-config.ts';
import type { CompiledTelemetry } from '../translate/telemetry.ts';
import type { TelemetryWorld } from '../translate/telemetry.ts';
import { compileTelemetry, isOlder } from '../translate/telemetry.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
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
  const telemetries = noted(
    'compiled-telemetries',
    graph.derive<TelemetryRecord, CompiledTelemetry>({
      name: 'compiled-telemetries',
      primary: sources.telemetries,
      derive: (record, key, read) => {
        const world = telemetryWorld(read, sources, cluster, record.meta.namespace);
        return only(key, compileTelemetry(record, world));
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

/** What Telemetry resources of a namespace are compiled with. */
export function telemetryWorld(
  read: Reader,
  sources: Sources,
  cluster: ClusterFacts,
  namespace: string,
): TelemetryWorld {
  const config = read.get(sources.meshConfig, `${cluster.rootNamespace}/istio`);
  const { providers } = config ?? defaultMeshConfig;
  let oldest: TelemetryRecord['meta'] | undefined;
  for (const { meta } of read.find(sources.telemetries, 'wide', namespace)) {
    if (oldest === undefined || isOlder(meta, oldest)) oldest = meta;
  }
  return {
    ...cluster,
    provider: (name) => providers.find((one) => one.name === name),
    firstOfNamespace: oldest,
  };
}
