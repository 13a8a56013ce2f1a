import type { Service, SocketAddress, Workload } from '@ambit/api';
import { baggageHeader, formatSocketAddress, forwardedHeader } from '@ambit/api';
import type { HeaderField } from '@ambit/core';

/** Headers of a CONNECT: what the source is, for the other side's telemetry only (contracts.md §5). */
export function tunnelHeaders(
  source: Workload,
  client: SocketAddress,
  service: Service | undefined,
): HeaderField[] {
  const host = service === undefined ? '' : `;host=${service.hostname}`;
  return [
    [baggageHeader, baggageOf(source)],
    [forwardedHeader, `for="${formatSocketAddress(client)}"${host}`],
  ];
}

export function baggageOf(workload: Workload): string {
  const {
    clusterId,
    namespace,
    workloadKind,
    workloadName,
    canonicalName,
    canonicalRevision,
    locality,
  } = workload;
  const kind =
    workloadKind === 'job' || workloadKind === 'cronjob' || workloadKind === 'pod'
      ? workloadKind
      : 'deployment';
  return [
    `k8s.cluster.name=${escape(clusterId)}`,
    `k8s.namespace.name=${escape(namespace)}`,
    `k8s.${kind}.name=${escape(workloadName)}`,
    `service.name=${escape(canonicalName)}`,
    `service.version=${escape(canonicalRevision)}`,
    `cloud.region=${escape(locality.region)}`,
    `cloud.availability_zone=${escape(locality.zone)}`,
  ].join(',');
}

function escape(value: string): string {
  return encodeURIComponent(value);
}
