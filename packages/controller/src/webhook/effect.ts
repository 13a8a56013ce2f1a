import type { ServiceKey } from '@ambit/api';
import { useWaypointLabel } from '@ambit/api';

import type { Reader } from '../collections/derived.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import { labelsOf } from '../collections/service-entries.ts';
import type { Sources } from '../collections/sources.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { ParentRefSpec } from '../resources/gateway-api.ts';
import type { EntryNote } from '../translate/entry-claims.ts';
import type { CompiledWorkloadEntry } from '../translate/entry-endpoint.ts';
import { tunnelLabel } from '../translate/entry-workload.ts';
import type { CompiledGatewayRoute } from '../translate/gateway-route.ts';
import { serviceObjectKey } from '../translate/istio-host.ts';
import type { CompiledServiceEntry } from '../translate/service-entry.ts';
import type { CompiledVirtualService } from '../translate/virtual-service.ts';
import type { Binding, CompiledWaypoint } from '../translate/waypoint.ts';
import { obstacleOf } from '../translate/waypoint.ts';
import { isNamedByRoutes } from './named-hosts.ts';
import { selectsNobody } from './selected.ts';
import type { Told } from './strangers.ts';

type L7 = Pick<MeshCollections['l7'], 'bindingOfService' | 'entries'>;
type Known = Pick<MeshCollections, 'sources' | 'l7'>;

/** What of a ServiceEntry does nothing, in the words of its conditions, and which endpoints it has none of. */
export function idleServiceEntry(
  read: Reader,
  entry: CompiledServiceEntry,
  known: Known,
): readonly Told[] {
  if (entry.hosts.length === 0) return [];
  const { binding, notes } = known.l7.entries.resolve(read, entry);
  const { namespace } = entry.meta;
  const told = notes.filter(
    ({ reason, field }) =>
      // What is reached by name is reached through a waypoint.
      reason === 'Conflict' || binding.kind === 'none' || field === 'spec.resolution',
  );
  // Or through that of the service whose routes name it.
  const isNamed = told.some(isOfNoAddress) && isNamedByRoutes(entry.hosts, known.sources);
  const selector = entry.selector ?? new Map<string, string>();
  return [
    ...told.filter((one) => !isNamed || !isOfNoAddress(one)),
    ...(entry.visibleTo?.length === 0
      ? [{ field: 'spec.exportTo', message: 'is ~ alone, so nobody sees it; name a namespace' }]
      : []),
    ...selectsNobody('spec.workloadSelector.labels', selector, namespace, known),
    ...refusing(binding, entry.meta),
  ];
}

function isOfNoAddress({ reason, field }: EntryNote): boolean {
  return reason === 'NotCaptured' && field === 'spec.addresses';
}

/** Of a WorkloadEntry that is nobody's endpoint, which is still a workload with an address. */
export function idleWorkloadEntry(
  read: Reader,
  { endpoint, meta }: CompiledWorkloadEntry,
  { l7: { entries } }: Known,
): readonly Told[] {
  if (endpoint === undefined) return [];
  const labels = labelsOf(meta, endpoint);
  const { namespace } = meta;
  const isReached = labels.get(tunnelLabel) === 'http' || labels.has(useWaypointLabel);
  const isUsed = isReached || entries.selecting(read, namespace, labels).length > 0;
  const message = `no ServiceEntry of namespace ${namespace} selects it, so it is the endpoint of no service; give it the labels of a workloadSelector`;
  return [
    ...(isUsed ? [] : [{ field: 'spec.labels', message }]),
    ...refusing(entries.workloadBinding(read, meta), meta),
  ];
}

/** A waypoint that is not deployed yet is on its way. */
function refusing(binding: Binding, { labels }: Metadata): readonly Told[] {
  if (binding.kind !== 'broken' || binding.reason === 'WaypointBlocked') return [];
  const field = labels.has(useWaypointLabel)
    ? `metadata.labels[${useWaypointLabel}]`
    : 'metadata.namespace';
  return [{ field, message: binding.message }];
}

/** The parents of a route whose services have no waypoint, which alone heeds routes. */
export function unboundParents(
  read: Reader,
  { parents }: CompiledGatewayRoute,
  refs: readonly ParentRefSpec[],
  l7: L7,
): readonly Told[] {
  return parents.flatMap(({ parent, service, byWaypoint }): Told[] => {
    if (service === undefined || byWaypoint === true || !isUnbound(read, service, l7)) return [];
    const field = `spec.parentRefs[${refs.indexOf(parent)}]`;
    return [{ field, message: withoutWaypoint([service], read, l7) }];
  });
}

/** The same of the hosts of a VirtualService. */
export function unboundHosts(
  read: Reader,
  { services }: CompiledVirtualService,
  l7: L7,
): readonly Told[] {
  const unbound = services.filter((one) => isUnbound(read, one, l7));
  if (unbound.length === 0) return [];
  return [{ field: 'spec.hosts', message: withoutWaypoint(unbound, read, l7) }];
}

function isUnbound(read: Reader, service: ServiceKey, l7: L7): boolean {
  return l7.bindingOfService(read, service)?.kind === 'none';
}

const maxNames = 3;

function withoutWaypoint(services: readonly ServiceKey[], read: Reader, { entries }: L7): string {
  const names = services.slice(0, maxNames).map((one) => {
    const entry = entries.serviceByKey(read, one)?.entry.entry;
    return entry === undefined ? `Service ${serviceObjectKey(one)}` : `ServiceEntry ${entry.key}`;
  });
  const are = names.length === 1 ? 'is' : 'are';
  return `${names.join(', ')} ${are} bound to no waypoint, and nobody else routes; label ${useWaypointLabel}`;
}

/** A Gateway whose name a Service has that is not its own, so that nothing can be deployed. */
export function takenName(
  waypoint: CompiledWaypoint,
  { services }: Pick<Sources, 'services'>,
): readonly Told[] {
  const { meta } = waypoint;
  const service = services.get(objectKey(meta));
  const holders = { service: service && (service.gatewayUid ?? ''), account: meta.uid };
  const message = obstacleOf(waypoint, holders);
  return message === undefined ? [] : [{ field: 'metadata.name', message }];
}
