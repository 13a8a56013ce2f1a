import { isDeepStrictEqual } from 'node:util';

import type { Upsert } from '@ambit/api';

import type { TelemetryRecord } from '../kube/decode/configuration.ts';
import { nameIn } from '../kube/decode/fields.ts';
import { defaultMeshConfig } from '../translate/mesh-config.ts';
import type { CompiledTelemetry } from '../translate/telemetry.ts';
import type { TelemetryWorld } from '../translate/telemetry.ts';
import { compileTelemetry, isForNamespace } from '../translate/telemetry.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import { Oldest } from './oldest.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

export interface TelemetryCollections {
  readonly telemetries: Collection<CompiledTelemetry>;
  /** What one is compiled with, which need not be stored yet. */
  readonly telemetryWorld: WorldOf;
  readonly output: Collection<Upsert>;
}

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
}): TelemetryCollections {
  const wide = new Oldest(sources.telemetries, {
    claims: (record) => (isForNamespace(record) ? [record.meta.namespace] : []),
    createdAtMs: ({ meta }) => meta.createdAtMs,
  });
  const telemetryWorld = worlds({ sources, cluster, wide });
  const telemetries = noted(
    'compiled-telemetries',
    graph.derive<TelemetryRecord, CompiledTelemetry>({
      name: 'compiled-telemetries',
      primary: sources.telemetries,
      derive: (record, key, read) =>
        only(key, compileTelemetry(record, telemetryWorld(read, record))),
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
  return { telemetries, telemetryWorld, output };
}

type WorldOf = (read: Reader, record: TelemetryRecord) => TelemetryWorld;

interface WorldParts {
  readonly sources: Sources;
  readonly cluster: ClusterFacts;
  /** By namespace, of those that are for all of it. */
  readonly wide: Oldest<TelemetryRecord>;
}

function worlds({ sources, cluster, wide }: WorldParts): WorldOf {
  return (read, record) => {
    const config = read.get(sources.meshConfig, `${cluster.rootNamespace}/istio`);
    const { providers } = config ?? defaultMeshConfig;
    const { namespace } = record.meta;
    const first = isForNamespace(record) ? read.oldest(wide, namespace) : undefined;
    return {
      ...cluster,
      provider: (name) => providers.find((one) => one.name === name),
      firstOfNamespace: first && {
        name: nameIn(first.key),
        createdAtMs: first.createdAtMs,
      },
    };
  };
}
