import type { AuthorizationPolicy, Service, Upsert, Workload } from '@ambit/api';
import { aMesh, aWorkload, upserts } from '@ambit/testkit';
import type { FakeController } from '@ambit/testkit';
import type { Pod } from './pods.ts';

/** A pod as the controller tells of it. */
export function workloadOf(
  pod: Pod,
  node: string,
  fields: Readonly<Record<string, unknown>> = {},
): Workload {
  return aWorkload({
    name: pod.name,
    serviceAccount: pod.name,
    addresses: [pod.ip4, pod.ip6],
    node,
    ...fields,
  });
}

let version = 0;

/** Tells every proxy; each call makes what it names newer than before. */
export async function tell(
  controller: FakeController,
  nouns: {
    readonly workloads?: readonly Workload[];
    readonly services?: readonly Service[];
    readonly policies?: readonly AuthorizationPolicy[];
  },
  removals: Parameters<FakeController['push']>[1] = [],
): Promise<void> {
  version += 1;
  await controller.push(
    upserts(nouns).map((upsert): Upsert => ({
      ...upsert,
      version: `v${version}` as Upsert['version'],
    })),
    removals,
  );
}

export async function tellMesh(
  controller: FakeController,
  roots: readonly string[],
): Promise<void> {
  version += 1;
  await controller.push([
    {
      type: 'mesh',
      name: 'default',
      version: `v${version}` as Upsert['version'],
      resource: aMesh({ roots }),
    },
  ]);
}
