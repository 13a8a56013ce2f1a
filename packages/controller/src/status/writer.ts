import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import { authorizationPolicyResource } from '../resources/authorization-policy.ts';
import { peerAuthenticationResource } from '../resources/peer-authentication.ts';
import type { Judged } from './conditions.ts';
import { acceptance, withCondition } from './conditions.ts';

export interface StatusWriterOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly collections: MeshCollections;
  readonly nowMs: () => number;
  readonly log: Log;
}

export interface StatusWriter {
  close(): Promise<void>;
}

interface Subject {
  readonly meta: Metadata;
  readonly conditions: unknown;
  readonly judged: Judged;
}

/** Tells the owners of security resources what became of them. Every replica writes the same, and only changes. */
export function startStatusWriter(options: StatusWriterOptions): StatusWriter {
  const { collections, client, gate, log } = options;
  const { policies, peerAuthentications } = collections.sources;
  const write = (resource: ResourceDefinition, find: (key: string) => Subject | undefined) => {
    // What was written for which version: the object's own event may not have come back yet.
    const written = new Map<string, string>();
    return createReconciler({
      gate,
      run: async (key) => {
        // A record may be newer than what was compiled of it.
        collections.flush();
        const subject = find(key);
        if (subject === undefined) {
          written.delete(key);
          return;
        }
        const now = new Date(options.nowMs()).toISOString().replace(/\.\d+Z$/, 'Z');
        const condition = acceptance(subject.judged, now);
        const conditions = withCondition(subject.conditions, condition);
        const writing = `${subject.meta.resourceVersion} ${condition.reason} ${condition.message}`;
        if (conditions === undefined || written.get(key) === writing) return;
        await patch(client, resource, subject.meta, conditions);
        written.set(key, writing);
        if (condition.status === 'False') {
          log.warn(
            { object: `${resource.kind} ${key}`, reason: condition.reason },
            condition.message,
          );
        }
      },
      onError: (key, error) => {
        log.warn({ err: error, object: `${resource.kind} ${key}` }, 'status not written');
      },
    });
  };
  const policyWriter = write(authorizationPolicyResource, (key) => {
    const record = policies.get(key);
    const compiled = collections.compiledPolicies.get(key);
    if (record === undefined || compiled?.policy === undefined) return undefined;
    const { requestFields } = compiled;
    const { action, scope } = compiled.policy;
    const problems = collections.judged.policies.get(key)?.problems ?? compiled.problems;
    const targeted = scope.kind === 'targeted';
    return subjectOf(record, { problems, requestFields, action, targeted });
  });
  const peerWriter = write(peerAuthenticationResource, (key) => {
    const record = peerAuthentications.get(key);
    const compiled = collections.compiledPeerAuthentications.get(key);
    if (record === undefined || compiled === undefined) return undefined;
    return subjectOf(record, { problems: compiled.problems, requestFields: [] });
  });
  // Sources too: somebody may have changed the status, or the generation without the meaning.
  for (const one of [policies, collections.compiledPolicies, collections.judged.policies])
    one.onChange((key) => policyWriter.enqueue(key));
  for (const one of [peerAuthentications, collections.compiledPeerAuthentications]) {
    one.onChange((key) => peerWriter.enqueue(key));
  }
  return {
    close: async () => {
      await Promise.all([policyWriter.close(), peerWriter.close()]);
    },
  };
}

function subjectOf(
  record: { readonly meta: Metadata; readonly conditions: unknown },
  judged: Omit<Judged, 'generation'>,
): Subject {
  return {
    meta: record.meta,
    conditions: record.conditions,
    judged: { ...judged, generation: record.meta.generation },
  };
}

async function patch(
  client: KubeClient,
  resource: ResourceDefinition,
  meta: Metadata,
  conditions: readonly unknown[],
): Promise<void> {
  const version = resource.versions[0] ?? 'v1';
  try {
    await client.request({
      method: 'PATCH',
      path: `/apis/${resource.group}/${version}/namespaces/${meta.namespace}/${resource.plural}/${meta.name}/status`,
      contentType: 'application/merge-patch+json',
      // The version makes it fail when the object has moved on; its next event brings us here again.
      body: { metadata: { resourceVersion: meta.resourceVersion }, status: { conditions } },
    });
  } catch (error) {
    const status = kubeStatus(error);
    if (status !== 404 && status !== 409) throw error;
  }
}
