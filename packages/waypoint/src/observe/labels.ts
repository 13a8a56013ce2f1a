import type { Workload } from '@ambit/api';
import { parseSpiffeIdentity } from '@ambit/api';
import type { Labels, TelemetryFacts } from '@ambit/core';
import { appOf, principalOf, trafficLabels, unknown, versionOf } from '@ambit/core';

export const requestLabels = [...trafficLabels, 'response_code', 'grpc_response_status'] as const;

/** Of a request or a connection. What a client may choose freely is none of them. */
export function labelsOf(facts: TelemetryFacts, protocol: 'http' | 'grpc' | 'tcp'): Labels {
  const { service } = facts;
  return {
    reporter: 'waypoint',
    ...ends('source', facts.source, facts.downstreamPeerUri),
    destination_service: service?.hostname ?? unknown,
    destination_service_namespace: service?.namespace ?? facts.destination?.namespace ?? unknown,
    destination_service_name: service?.name ?? unknown,
    ...ends('destination', facts.destination, facts.destination && principalOf(facts.destination)),
    request_protocol: protocol,
    response_flags: facts.responseFlags ?? '-',
    connection_security_policy: 'mutual_tls',
  };
}

export function requestLabelsOf(facts: TelemetryFacts, protocol: 'http' | 'grpc'): Labels {
  return {
    ...labelsOf(facts, protocol),
    response_code: String(facts.responseCode),
    grpc_response_status: facts.grpcStatus,
  };
}

/** Of a client that is no known pod its identity still names the namespace. */
function namespaceOf(principal: string | undefined): string | undefined {
  const identity = parseSpiffeIdentity(principal ?? '');
  return identity.ok ? identity.value.namespace : undefined;
}

function ends(
  end: 'source' | 'destination',
  workload: Workload | undefined,
  principal: string | undefined,
): Labels {
  const told = {
    workload: workload?.workloadName,
    canonical_service: workload?.canonicalName,
    canonical_revision: workload?.canonicalRevision,
    workload_namespace: workload?.namespace ?? namespaceOf(principal),
    principal,
    app: workload && appOf(workload),
    version: workload && versionOf(workload),
    cluster: workload?.clusterId,
    region: workload?.locality.region,
    zone: workload?.locality.zone,
  };
  return Object.fromEntries(
    Object.entries(told).map(([name, value]) => [`${end}_${name}`, value || unknown]),
  );
}
