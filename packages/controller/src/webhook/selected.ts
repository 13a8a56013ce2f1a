import type { MeshCollections } from '../collections/mesh.ts';
import { labelsOf } from '../collections/service-entries.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import { selects } from '../translate/selector.ts';
import { hasEnded } from '../translate/workload.ts';
import type { Told } from './strangers.ts';

/**
 * What is to be told of a selector that selects no workload now. In the root namespace, where it is for all of them,
 * nothing is looked at.
 */
export function selectsNobody(
  { namespace }: Pick<Metadata, 'namespace'>,
  matchLabels: Readonly<Record<string, string>> = {},
  { sources, l7 }: Pick<MeshCollections, 'sources' | 'l7'>,
  rootNamespace: string,
): readonly Told[] {
  const labels = new Map(Object.entries(matchLabels));
  if (labels.size === 0 || namespace === rootNamespace) return [];
  const isPod = sources.pods
    .find('namespace', namespace)
    .some((pod) => !hasEnded(pod) && selects(labels, pod.meta.labels));
  if (isPod) return [];
  const isEntry = l7.entries.workloadEntries
    .find('namespace', namespace)
    .some(({ meta, endpoint }) => endpoint && selects(labels, labelsOf(meta, endpoint)));
  if (isEntry) return [];
  const message = `selects no Pod and no WorkloadEntry of namespace ${namespace} now, so it holds for nobody until there is one with these labels`;
  return [{ field: 'spec.selector.matchLabels', message }];
}
