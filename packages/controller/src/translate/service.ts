import type { Hostname, LoadBalancing, LocalityScope, Service } from '@ambit/api';
import { parseHostname, trafficDistributionAnnotation } from '@ambit/api';

import type { ServiceRecord } from '../kube/decode/service.ts';

const sameZone: readonly LocalityScope[] = ['network', 'region', 'zone'];
const sameNode: readonly LocalityScope[] = ['network', 'region', 'zone', 'subzone', 'node'];

/** The name under which the cluster's DNS knows a service; undefined for one that has no such name. */
export function serviceHostname(
  service: { readonly name: string; readonly namespace: string },
  clusterDomain: string,
): Hostname | undefined {
  const hostname = parseHostname(`${service.name}.${service.namespace}.svc.${clusterDomain}`);
  return hostname.ok ? hostname.value : undefined;
}

/**
 * `namespaceDistribution` is the traffic distribution that the namespace asks for, if any.
 * Undefined for what has no endpoints of its own: an ExternalName is an alias in DNS.
 */
export function compileService(
  record: ServiceRecord,
  namespaceDistribution: string | undefined,
  clusterDomain: string,
  waypoint: Pick<Service, 'waypoint' | 'withoutWaypoint'> = { withoutWaypoint: 'refuse' },
): Service | undefined {
  const hostname = serviceHostname(record.meta, clusterDomain);
  if (hostname === undefined || record.type === 'ExternalName') return undefined;
  return {
    name: record.meta.name,
    namespace: record.meta.namespace,
    hostname,
    vips: record.headless ? [] : record.clusterIps,
    ipFamilies: record.ipFamilies,
    ports: record.ports
      .filter((one) => one.protocol === 'TCP')
      .map(({ name, port, appProtocol }) => ({ name, port, appProtocol })),
    loadBalancing: loadBalancing(record, namespaceDistribution),
    ...waypoint,
    publishNotReady: record.publishNotReadyAddresses,
  };
}

/** The service's own field wins over its annotation, and that over its namespace's. */
function loadBalancing(
  record: ServiceRecord,
  namespaceDistribution: string | undefined,
): LoadBalancing {
  if (record.internalTrafficPolicy === 'Local') return { mode: 'strict', scopes: ['node'] };
  const wanted =
    [
      record.trafficDistribution,
      record.meta.annotations.get(trafficDistributionAnnotation),
      namespaceDistribution,
    ].find((value) => value !== undefined && value !== '') ?? '';
  switch (wanted) {
    case 'PreferClose':
    case 'PreferSameZone':
      return { mode: 'failover', scopes: sameZone };
    case 'PreferSameNode':
      return { mode: 'failover', scopes: sameNode };
    default:
      return { mode: 'any' };
  }
}
