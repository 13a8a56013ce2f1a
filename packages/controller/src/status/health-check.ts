import { healthCheckAnnotation } from '@ambit/api';

import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import { parseHealthCheck } from '../translate/health-check.ts';
import type { Wanted } from './conditions.ts';
import { setConditions } from './conditions.ts';
import { patchStatus } from './patch.ts';
import { statusRefused } from './refused.ts';

const type = 'ambit.dev/HealthCheck';

/** What is to be said of a Service's annotation. */
export function healthCheckCondition(annotation: string | undefined): Wanted {
  if (annotation === undefined) {
    return {
      type,
      status: 'False',
      reason: 'NotRequested',
      message: 'no health check is asked for',
    };
  }
  const parsed = parseHealthCheck(annotation);
  if (!parsed.ok) {
    const message = `${healthCheckAnnotation}: ${parsed.error}; endpoints are not checked`;
    return { type, status: 'False', reason: 'Invalid', message };
  }
  const { path, intervalMs } = parsed.value;
  const message = `waypoints ask endpoints for ${path} every ${intervalMs} ms while the service is used`;
  return { type, status: 'True', reason: 'Accepted', message };
}

/** Tells on Services what became of their annotation; those that never had one are not told. */
export function startHealthCheckStatus({
  client,
  gate,
  ownership,
  collections,
  nowMs,
  log,
}: {
  readonly client: KubeClient;
  readonly gate: Gate;
  readonly ownership: Ownership;
  readonly collections: MeshCollections;
  readonly nowMs: () => number;
  readonly log: Log;
}): { close(): Promise<void> } {
  const { services } = collections.sources;
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      const record = services.get(key);
      if (record === undefined || !ownership.owns(record.meta)) return;
      const annotation = record.meta.annotations.get(healthCheckAnnotation);
      if (annotation === undefined && !isTold(record.conditions)) return;
      const wanted = healthCheckCondition(annotation);
      const { meta } = record;
      const status = { conditions: record.conditions };
      const conditions = setConditions(status, [wanted], meta.generation, nowMs());
      if (conditions === undefined) return;
      const path = `/api/v1/namespaces/${meta.namespace}/services/${meta.name}`;
      await patchStatus(client, { path, meta, status: { conditions } });
      if (wanted.reason === 'Invalid') log.warn({ object: `Service ${key}` }, wanted.message);
    },
    onError: statusRefused(log, (key) => `Service ${key}`),
  });
  services.onChange((key) => reconciler.enqueue(key));
  ownership.follow(services, (key) => reconciler.enqueue(key));
  return reconciler;
}

function isTold(conditions: unknown): boolean {
  return (
    Array.isArray(conditions) &&
    conditions.some((one: unknown) => (one as { type?: unknown } | null)?.type === type)
  );
}
