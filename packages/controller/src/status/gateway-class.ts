import { waypointClass } from '@ambit/api';

import type { Sources } from '../collections/sources.ts';
import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import type { Rivals } from '../rivals.ts';
import { hasCondition } from './bound.ts';
import type { Wanted } from './conditions.ts';
import { setConditions } from './conditions.ts';
import { controllerName } from './controller-name.ts';
import { patchStatus } from './patch.ts';
import { statusRefused } from './refused.ts';
import { routeFeatures } from './supported-features.ts';

export interface GatewayClassStatusOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly ownership: Ownership;
  readonly sources: Sources;
  readonly rivals: Pick<Rivals, 'later' | 'onChange'>;
  readonly nowMs: () => number;
  readonly log: Log;
}

/** Tells on GatewayClasses that name this controller whether it serves them; of others nothing is said. */
export function startGatewayClassStatus(options: GatewayClassStatusOptions): {
  close(): Promise<void>;
} {
  const { client, gate, ownership, sources, rivals, nowMs, log } = options;
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      const record = sources.gatewayClasses.get(key);
      if (record === undefined || !record.spec.ok) return;
      if (record.spec.value.controllerName !== controllerName) return;
      const { meta } = record;
      if (!ownership.owns(meta)) return;
      const { generation } = meta;
      const status = classStatus(
        meta.name,
        record.status,
        { generation, nowMs: nowMs() },
        rivals.later(),
      );
      if (status === undefined) return;
      const path = `/apis/gateway.networking.k8s.io/v1/gatewayclasses/${meta.name}`;
      await patchStatus(client, { path, meta, status });
    },
    onError: statusRefused(log, (key) => `GatewayClass ${key}`),
  });
  sources.gatewayClasses.onChange((key) => reconciler.enqueue(key));
  rivals.onChange(() => reconciler.enqueue(waypointClass));
  return reconciler;
}

/** Pure: what is to be written of a class's status; undefined when all of it stands there. */
export function classStatus(
  name: string,
  status: unknown,
  { generation, nowMs }: { readonly generation: number; readonly nowMs: number },
  laterMesh?: string,
): Readonly<Record<string, unknown>> | undefined {
  const conditions = setConditions(
    status,
    [classCondition(name), ...otherMesh(name, status, laterMesh)],
    generation,
    nowMs,
  );
  const wanted: readonly string[] = name === waypointClass ? routeFeatures : [];
  const there = list(field(status, 'supportedFeatures')).map((one) => text(field(one, 'name')));
  const same = there.join() === wanted.join();
  if (conditions === undefined && same) return undefined;
  return {
    ...(conditions === undefined ? {} : { conditions }),
    ...(same ? {} : { supportedFeatures: wanted.map((one) => ({ name: one })) }),
  };
}

const otherMeshType = 'ambit.dev/OtherMesh';

/** True says that there is something amiss; what was never said is not said to be well. */
function otherMesh(name: string, status: unknown, later: string | undefined): readonly Wanted[] {
  if (name !== waypointClass) return [];
  if (later !== undefined)
    return [{ type: otherMeshType, status: 'True', reason: 'InstalledLater', message: later }];
  if (!hasCondition(status, otherMeshType)) return [];
  const message = 'no other mesh runs in the cluster';
  return [{ type: otherMeshType, status: 'False', reason: 'None', message }];
}

/** What a controller says of a class that names it and that it does not serve. */
export const classUnsupported = `this controller serves the class ${waypointClass} only`;

function classCondition(name: string): Wanted {
  return name === waypointClass
    ? {
        type: 'Accepted',
        status: 'True',
        reason: 'Accepted',
        message: 'Gateways of this class are deployed as waypoints',
      }
    : {
        type: 'Accepted',
        status: 'False',
        reason: 'Unsupported',
        message: classUnsupported,
      };
}
