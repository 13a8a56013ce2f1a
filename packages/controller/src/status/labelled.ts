import type { ReadableCollection } from '../collections/collection.ts';
import { decodeMetadata, field } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Scope } from '../kube/scope.ts';
import type { Binding } from '../translate/waypoint.ts';
import { boundConditions } from './bound.ts';
import { setConditions } from './conditions.ts';
import type { EntryStatusOptions } from './entries.ts';
import { statusRefused } from './refused.ts';

export interface LabelledStatusOptions extends EntryStatusOptions {
  readonly scope: Scope;
}

/**
 * Tells on Pods and Namespaces that are labelled themselves to which waypoint they are bound. Their status belongs to
 * others: one condition is merged into it by its type, and nothing else is touched.
 */
export function startLabelledStatus(options: LabelledStatusOptions): { close(): Promise<void> } {
  const { podBindings, namespaceBindings } = options.collections.l7;
  const pods = follow(options, 'Pod', podBindings, (key) => {
    const [namespace = '', name = ''] = key.split('/');
    return `/api/v1/namespaces/${namespace}/pods/${name}`;
  });
  const namespaces = follow(
    options,
    'Namespace',
    namespaceBindings,
    (key) => `/api/v1/namespaces/${key}`,
  );
  return {
    close: async () => {
      await Promise.all([pods.close(), namespaces.close()]);
    },
  };
}

function follow(
  { client, gate, ownership, collections, scope, nowMs, log }: LabelledStatusOptions,
  kind: 'Pod' | 'Namespace',
  bindings: ReadableCollection<Binding>,
  pathOf: (key: string) => string,
): { close(): Promise<void> } {
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      // Of what is out of scope nothing is judged, and what was said of it stays.
      if (!scope.includes(key.split('/')[0] ?? '')) return;
      const binding = bindings.get(key) ?? { kind: 'none' };
      try {
        const written = await tell(pathOf(key), binding);
        if (written && binding.kind === 'broken')
          log.warn({ object: `${kind} ${key}` }, binding.message);
      } catch (error) {
        // It is gone.
        if (kubeStatus(error) !== 404) throw error;
      }
    },
    onError: statusRefused(log, (key) => `${kind} ${key}`),
  });

  /** The object is read first: of pods and namespaces conditions are not kept, there are too many. */
  async function tell(path: string, binding: Binding): Promise<boolean> {
    const object = await client.request({ path });
    const meta = decodeMetadata(object);
    if (meta === undefined || !ownership.owns(meta)) return false;
    const condition = conditionToWrite(binding, field(object, 'status'), nowMs());
    if (condition === undefined) return false;
    await client.request({
      method: 'PATCH',
      path: `${path}/status`,
      contentType: 'application/strategic-merge-patch+json',
      // Whoever reads, waits and then writes must not undo what was said in between.
      body: {
        metadata: { resourceVersion: meta.resourceVersion },
        status: { conditions: [condition] },
      },
    });
    return true;
  }

  bindings.onChange((key) => reconciler.enqueue(key));
  ownership.follow(bindings, (key) => reconciler.enqueue(key));
  scope.onChange(() => {
    for (const [key] of bindings.entries()) reconciler.enqueue(key);
  });
  return reconciler;
}

/** Pure: the condition that does not stand there yet. Neither kind knows an observed generation everywhere. */
export function conditionToWrite(binding: Binding, status: unknown, nowMs: number): unknown {
  return setConditions(status, boundConditions(binding, status), undefined, nowMs)?.at(-1);
}
