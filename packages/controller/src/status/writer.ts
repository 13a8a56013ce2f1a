import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import { authorizationPolicyResource } from '../resources/authorization-policy.ts';
import { peerAuthenticationResource } from '../resources/peer-authentication.ts';
import type { Judged } from './conditions.ts';
import { acceptance, withCondition } from './conditions.ts';
import { patchStatus } from './patch.ts';
import { statusRefused } from './refused.ts';

export interface StatusWriterOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly ownership: Ownership;
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

/** Tells the owners of security resources what became of them: only changes, and only of what is this control plane's. */
export function startStatusWriter(options: StatusWriterOptions): StatusWriter {
  const { collections, client, gate, ownership, log } = options;
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
        if (!ownership.owns(subject.meta)) return;
        const now = new Date(options.nowMs()).toISOString().replace(/\.\d+Z$/, 'Z');
        const condition = acceptance(subject.judged, now);
        const conditions = withCondition(subject.conditions, condition);
        const writing = `${subject.meta.resourceVersion} ${condition.reason} ${condition.message}`;
        if (conditions === undefined || written.get(key) === writing) return;
        const { meta } = subject;
        const path = `/apis/${resource.group}/${resource.versions[0] ?? 'v1'}/namespaces/${meta.namespace}/${resource.plural}/${meta.name}`;
        await patchStatus(client, { path, meta, status: { conditions } });
        written.set(key, writing);
        if (condition.status === 'False') {
          log.warn(
            { object: `${resource.kind} ${key}`, reason: condition.reason },
            condition.message,
          );
        }
      },
      onError: statusRefused(log, (key) => `${resource.kind} ${key}`),
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
    const problems = collections.judged.peerAuthentications.get(key)?.problems;
    return subjectOf(record, { problems: problems ?? compiled.problems, requestFields: [] });
  });
  // Sources too: somebody may have changed the status, or the generation without the meaning.
  for (const one of [policies, collections.compiledPolicies, collections.judged.policies])
    one.onChange((key) => policyWriter.enqueue(key));
  const { compiledPeerAuthentications, judged } = collections;
  for (const one of [
    peerAuthentications,
    compiledPeerAuthentications,
    judged.peerAuthentications,
  ]) {
    one.onChange((key) => peerWriter.enqueue(key));
  }
  ownership.follow(policies, (key) => policyWriter.enqueue(key));
  ownership.follow(peerAuthentications, (key) => peerWriter.enqueue(key));
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
