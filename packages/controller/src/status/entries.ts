import type { ReadableCollection } from '../collections/collection.ts';
import type { Requirement } from '../collections/requirements.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Metadata, Problem } from '../kube/decode/fields.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import type { ResourceDefinition } from '../resources/crd.ts';
import { serviceEntryResource, workloadEntryResource } from '../resources/service-entry.ts';
import type { EntryNote, ResolvedEntry } from '../translate/entry-claims.ts';
import { boundConditions, hasCondition, requiredConditions } from './bound.ts';
import type { Wanted } from './conditions.ts';
import { setConditions } from './conditions.ts';
import { patchStatus } from './patch.ts';
import { statusRefused } from './refused.ts';

export interface EntryStatusOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly ownership: Ownership;
  readonly collections: MeshCollections;
  readonly nowMs: () => number;
  readonly log: Log;
}

interface Subject {
  readonly meta: Metadata;
  readonly status: unknown;
  readonly wanted: readonly Wanted[];
}

/** Tells on ServiceEntries and WorkloadEntries what became of them, and to which waypoint they are bound. */
export function startEntryStatus(options: EntryStatusOptions): { close(): Promise<void> } {
  const { l7 } = options.collections;
  const { entries } = l7;
  const writers = [
    follow(options, serviceEntryResource, [entries.resolved, l7.entryRequirements], (key) => {
      const resolved = entries.resolved.get(key);
      return (
        resolved && {
          ...resolved.entry,
          wanted: entryConditions(resolved, l7.entryRequirements.get(key)),
        }
      );
    }),
    follow(options, workloadEntryResource, [entries.workloadEntries], (key) => {
      const entry = entries.workloadEntries.get(key);
      if (entry === undefined) return undefined;
      const { binding, meta, status } = entry;
      return {
        meta,
        status,
        wanted: [accepted(entry.problems), ...boundConditions(binding, status)],
      };
    }),
  ];
  return {
    close: async () => {
      await Promise.all(writers.map((one) => one.close()));
    },
  };
}

function follow(
  { client, gate, ownership, collections, nowMs, log }: EntryStatusOptions,
  resource: ResourceDefinition,
  compiled: readonly ReadableCollection<unknown>[],
  subjectOf: (key: string) => Subject | undefined,
): { close(): Promise<void> } {
  const { group, plural, kind, versions } = resource;
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      const subject = subjectOf(key);
      if (subject === undefined) return;
      const { meta, status, wanted } = subject;
      if (!ownership.owns(meta)) return;
      const conditions = setConditions(status, wanted, meta.generation, nowMs());
      if (conditions === undefined) return;
      const path = `/apis/${group}/${versions[0] ?? 'v1'}/namespaces/${meta.namespace}/${plural}/${meta.name}`;
      await patchStatus(client, { path, meta, status: { conditions } });
      for (const one of wanted)
        if (one.status === 'False') log.warn({ object: `${kind} ${key}` }, one.message);
    },
    onError: statusRefused(log, (key) => `${kind} ${key}`),
  });
  for (const one of compiled) {
    one.onChange((key) => reconciler.enqueue(key));
    ownership.follow(one, (key) => reconciler.enqueue(key));
  }
  return reconciler;
}

/** Pure: what is to be said of a ServiceEntry. */
export function entryConditions(
  { entry, binding, notes }: ResolvedEntry,
  requirement?: Requirement,
): readonly Wanted[] {
  const problems: readonly Pick<Problem, 'field' | 'message'>[] = entry.problems;
  const conflicts = notes.filter(({ reason }) => reason === 'Conflict');
  const missed = notes.filter(({ reason }) => reason === 'NotCaptured');
  return [
    accepted(problems),
    ...limited('ambit.dev/Conflicted', 'Conflict', conflicts, entry.status),
    ...limited('ambit.dev/NotCaptured', 'NotCaptured', missed, entry.status),
    ...boundConditions(binding, entry.status),
    ...requiredConditions(requirement, entry.status),
  ];
}

function accepted(problems: readonly Pick<Problem, 'field' | 'message'>[]): Wanted {
  return problems.length === 0
    ? { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'known to the mesh' }
    : { type: 'Accepted', status: 'False', reason: 'Invalid', message: told(problems) };
}

/** True says that there is something amiss; what was never said is not said to be well. */
function limited(
  type: string,
  reason: string,
  notes: readonly EntryNote[],
  status: unknown,
): readonly Wanted[] {
  if (notes.length > 0) return [{ type, status: 'True', reason, message: told(notes) }];
  return hasCondition(status, type)
    ? [{ type, status: 'False', reason: 'None', message: 'nothing is held back' }]
    : [];
}

function told(all: readonly Pick<Problem, 'field' | 'message'>[]): string {
  return all.map(({ field, message }) => `${field}: ${message}`).join('; ');
}
