import type { MeshCollections } from '../collections/mesh.ts';
import { labelsOf } from '../collections/service-entries.ts';
import { selects } from '../translate/selector.ts';
import { hasEnded } from '../translate/workload.ts';
import type { Told } from './strangers.ts';

/** What is to be told of labels, which `field` says, by which no workload of the namespace is selected now. */
export function selectsNobody(
  field: string,
  labels: ReadonlyMap<string, string>,
  namespace: string,
  { sources, l7 }: Pick<MeshCollections, 'sources' | 'l7'>,
): readonly Told[] {
  if (labels.size === 0) return [];
  const isSelected =
    sources.pods.some(
      'namespace',
      namespace,
      (pod) => !hasEnded(pod) && selects(labels, pod.meta.labels),
    ) ||
    l7.entries.workloadEntries.some(
      'namespace',
      namespace,
      ({ meta, endpoint }) => endpoint !== undefined && selects(labels, labelsOf(meta, endpoint)),
    );
  if (isSelected) return [];
  const message = `selects no Pod and no WorkloadEntry of namespace ${namespace} now, so it holds for nobody until there is one with these labels`;
  return [{ field, message }];
}
