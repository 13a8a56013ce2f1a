import type { ReadableCollection } from '../collections/collection.ts';
import type { Judgement } from '../collections/judged.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { ConfigurationRecord } from '../kube/decode/configuration.ts';
import { reasonOf } from '../kube/decode/fields.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import { destinationRuleResource } from '../resources/destination-rule.ts';
import { rateLimitPolicyResource } from '../resources/rate-limit-policy.ts';
import { requestAuthenticationResource } from '../resources/request-authentication.ts';
import { telemetryResource } from '../resources/telemetry.ts';
import { virtualServiceResource } from '../resources/virtual-service.ts';
import { boundConditions, requiredConditions } from './bound.ts';
import type { Wanted } from './conditions.ts';
import { setConditions } from './conditions.ts';
import { startEntryStatus } from './entries.ts';
import { patchStatus } from './patch.ts';
import { statusRefused } from './refused.ts';
import { startRouteStatus } from './routes.ts';

export interface TrafficStatusOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly ownership: Ownership;
  readonly collections: MeshCollections;
  readonly nowMs: () => number;
  readonly log: Log;
}

/** Tells on resources that configure traffic what became of them, and on Services which waypoint they are bound to. */
export function startTrafficStatus(options: TrafficStatusOptions): { close(): Promise<void> } {
  const { sources, l7, judged } = options.collections;
  const writers = [
    follow(options, virtualServiceResource, sources.virtualServices, l7.virtualServices),
    follow(options, destinationRuleResource, sources.destinationRules, l7.destinationRules),
    follow(
      options,
      requestAuthenticationResource,
      sources.requestAuthentications,
      judged.authentications,
    ),
    follow(options, telemetryResource, sources.telemetries, judged.telemetries),
    follow(options, rateLimitPolicyResource, sources.rateLimitPolicies, judged.rateLimits),
    followServices(options),
    startEntryStatus(options),
    startRouteStatus(options),
  ];
  return {
    close: async () => {
      await Promise.all(writers.map((one) => one.close()));
    },
  };
}

function follow<S>(
  { client, gate, ownership, collections, nowMs, log }: TrafficStatusOptions,
  resource: ResourceDefinition,
  records: ReadableCollection<ConfigurationRecord<S>>,
  compiled: ReadableCollection<Judgement>,
): { close(): Promise<void> } {
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      const record = records.get(key);
      const judgement = compiled.get(key);
      if (record === undefined || judgement === undefined) return;
      if (!ownership.owns(record.meta)) return;
      const wanted = accepted(judgement);
      const { meta } = record;
      const conditions = setConditions(record.status, [wanted], meta.generation, nowMs());
      if (conditions === undefined) return;
      const version = resource.versions[0] ?? 'v1';
      const path = `/apis/${resource.group}/${version}/namespaces/${meta.namespace}/${resource.plural}/${meta.name}`;
      await patchStatus(client, { path, meta, status: { conditions } });
      if (wanted.status === 'False')
        log.warn({ object: `${resource.kind} ${key}` }, wanted.message);
    },
    onError: statusRefused(log, (key) => `${resource.kind} ${key}`),
  });
  records.onChange((key) => reconciler.enqueue(key));
  compiled.onChange((key) => reconciler.enqueue(key));
  ownership.follow(records, (key) => reconciler.enqueue(key));
  return reconciler;
}

function accepted({ problems, note }: Judgement): Wanted {
  if (problems.length === 0) {
    return {
      type: 'Accepted',
      status: 'True',
      reason: 'Accepted',
      message: `applied to waypoints${note === undefined ? '' : `; ${note}`}`,
    };
  }
  const message = problems.map(({ field, message: text }) => `${field}: ${text}`).join('; ');
  return { type: 'Accepted', status: 'False', reason: reasonOf(problems), message };
}

function followServices({
  client,
  gate,
  ownership,
  collections,
  nowMs,
  log,
}: TrafficStatusOptions): {
  close(): Promise<void>;
} {
  const { services } = collections.sources;
  const { bindings } = collections.l7;
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      const record = services.get(key);
      const binding = bindings.get(key);
      if (record === undefined || binding === undefined) return;
      const { meta } = record;
      if (!ownership.owns(meta)) return;
      const status = { conditions: record.conditions };
      const wanted = [
        ...boundConditions(binding, status),
        ...requiredConditions(collections.l7.requirements.get(key), status),
      ];
      const conditions = setConditions(status, wanted, meta.generation, nowMs());
      if (conditions === undefined) return;
      const path = `/api/v1/namespaces/${meta.namespace}/services/${meta.name}`;
      await patchStatus(client, { path, meta: meta, status: { conditions } });
      if (binding.kind === 'broken') log.warn({ object: `Service ${key}` }, binding.message);
    },
    onError: statusRefused(log, (key) => `Service ${key}`),
  });
  services.onChange((key) => reconciler.enqueue(key));
  ownership.follow(services, (key) => reconciler.enqueue(key));
  bindings.onChange((key) => reconciler.enqueue(key));
  collections.l7.requirements.onChange((key) => reconciler.enqueue(key));
  return reconciler;
}
