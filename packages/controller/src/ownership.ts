import type { ReadableCollection } from './collections/collection.ts';
import type { Metadata } from './kube/decode/fields.ts';
import type { NamespaceRecord } from './kube/decode/namespace.ts';
import type { RevisionFacts } from './translate/revision.ts';
import { isOurs, revisionLabel } from './translate/revision.ts';

/**
 * Which of several control planes writes what of an object: the one that its label `istio.io/rev` names, or else that of
 * its namespace, or else the default one. All of them read everything, so that nothing is without configuration while
 * it changes hands.
 */
export interface Ownership {
  owns(meta: Pick<Metadata, 'namespace' | 'labels'>): boolean;
  /** Enqueues the keys of what is in a namespace that has changed hands. */
  follow(objects: ReadableCollection<unknown>, enqueue: (key: string) => void): void;
}

export function followOwnership(
  namespaces: ReadableCollection<NamespaceRecord>,
  facts: RevisionFacts,
): Ownership {
  const labels = new Map<string, string>();
  const listeners: ((namespace: string) => void)[] = [];
  const take = (name: string, record: NamespaceRecord | undefined): void => {
    const label = record?.meta.labels.get(revisionLabel) ?? '';
    if (label === (labels.get(name) ?? '')) return;
    if (label === '') labels.delete(name);
    else labels.set(name, label);
    for (const tell of listeners) tell(name);
  };
  for (const [name, record] of namespaces.entries()) take(name, record);
  namespaces.onChange(take);
  return {
    owns: (meta) =>
      isOurs(meta.labels.get(revisionLabel) ?? labels.get(meta.namespace) ?? '', facts),
    follow: (objects, enqueue) => {
      listeners.push((namespace) => {
        for (const [key] of objects.entries())
          if (key === namespace || key.startsWith(`${namespace}/`)) enqueue(key);
      });
    },
  };
}
