import type { Service, Workload } from '@ambit/api';
import type { BoundedCounter, Metrics, TrafficLabel, TrafficLabels } from '@ambit/core';
import { trafficLabels } from '@ambit/core';

export type ResponseFlags =
  '-' | 'DENY' | 'CONNECT' | 'TLS_FAILURE' | 'H2_HANDSHAKE_FAILURE' | 'IDENTITY_ERROR';

export interface ZtunnelMetrics {
  readonly opened: BoundedCounter<TrafficLabel>;
  readonly closed: BoundedCounter<TrafficLabel>;
  readonly received: BoundedCounter<TrafficLabel>;
  readonly sent: BoundedCounter<TrafficLabel>;
  readonly failed: BoundedCounter<TrafficLabel>;
  /** Peers that were turned away before they could ask for anything, and calls to the mesh's own ports. */
  readonly rejected: BoundedCounter<'reason'>;
  readonly proxiesStarted: BoundedCounter<never>;
  readonly proxiesStopped: BoundedCounter<never>;
  readonly terminations: BoundedCounter<'reason'>;
  readonly dryRun: BoundedCounter<'policy' | 'would'>;
  readonly audited: BoundedCounter<'policy'>;
}

export function createZtunnelMetrics(
  metrics: Metrics,
  version: string,
  activeProxies: () => number,
): ZtunnelMetrics {
  metrics
    .gauge('istio_build', 'Version of this program.', ['component', 'tag'])
    .set({ component: 'ztunnel', tag: version }, 1);
  const active = metrics.gauge(
    'istio_active_proxy_count_total',
    'Pods whose traffic is taken now.',
    [],
  );
  // Read when asked for, so that no path has to keep a gauge in step.
  Object.assign(active, { collect: () => active.set(activeProxies()) });
  const tcp = (name: string, help: string): BoundedCounter<TrafficLabel> =>
    metrics.counter(name, help, trafficLabels);
  return {
    opened: tcp('istio_tcp_connections_opened_total', 'TCP connections opened.'),
    closed: tcp('istio_tcp_connections_closed_total', 'TCP connections closed.'),
    received: tcp(
      'istio_tcp_received_bytes_total',
      'Bytes received by the server of a connection.',
    ),
    sent: tcp('istio_tcp_sent_bytes_total', 'Bytes sent by the server of a connection.'),
    failed: tcp(
      'istio_tcp_connections_failed_total',
      'TCP connections that were refused or could not be made.',
    ),
    rejected: metrics.counter(
      'ambit_rejected_total',
      'Calls refused before they were a connection of the mesh.',
      ['reason'],
    ),
    proxiesStarted: metrics.counter(
      'istio_proxies_started_total',
      'Pods whose traffic was taken.',
      [],
    ),
    proxiesStopped: metrics.counter(
      'istio_proxies_stopped_total',
      'Pods whose traffic is no longer taken.',
      [],
    ),
    terminations: metrics.counter(
      'istio_xds_connection_terminations_total',
      'Lost connections to the controller.',
      ['reason'],
    ),
    dryRun: metrics.counter('ambit_dry_run_total', 'What policies in dry run would have decided.', [
      'policy',
      'would',
    ]),
    audited: metrics.counter(
      'ambit_audited_total',
      'Connections that a policy of action AUDIT asks to be told.',
      ['policy'],
    ),
  };
}

export interface TcpFacts {
  readonly reporter: 'source' | 'destination';
  readonly source?: Workload | undefined;
  readonly sourcePrincipal?: string | undefined;
  readonly destination?: Workload | undefined;
  readonly destinationPrincipal?: string | undefined;
  readonly service?: Service | undefined;
  readonly mutualTls: boolean;
  readonly flags: ResponseFlags;
}

const unknown = 'unknown';

// eslint-disable-next-line complexity -- no decision, one default for each label
export function tcpLabelsOf(facts: TcpFacts): TrafficLabels {
  const { source, destination, service } = facts;
  return {
    reporter: facts.reporter,
    source_workload: source?.workloadName ?? unknown,
    source_canonical_service: source?.canonicalName ?? unknown,
    source_canonical_revision: source?.canonicalRevision ?? unknown,
    source_workload_namespace: source?.namespace ?? unknown,
    source_principal: facts.sourcePrincipal ?? unknown,
    source_app: source?.canonicalName ?? unknown,
    source_version: source?.canonicalRevision ?? unknown,
    source_cluster: source?.clusterId ?? unknown,
    source_region: text(source?.locality.region),
    source_zone: text(source?.locality.zone),
    destination_service: service?.hostname ?? unknown,
    destination_service_namespace: service?.namespace ?? unknown,
    destination_service_name: service?.name ?? unknown,
    destination_workload: destination?.workloadName ?? unknown,
    destination_canonical_service: destination?.canonicalName ?? unknown,
    destination_canonical_revision: destination?.canonicalRevision ?? unknown,
    destination_workload_namespace: destination?.namespace ?? unknown,
    destination_principal: facts.destinationPrincipal ?? unknown,
    destination_app: destination?.canonicalName ?? unknown,
    destination_version: destination?.canonicalRevision ?? unknown,
    destination_cluster: destination?.clusterId ?? unknown,
    destination_region: text(destination?.locality.region),
    destination_zone: text(destination?.locality.zone),
    request_protocol: 'tcp',
    response_flags: facts.flags,
    connection_security_policy: facts.mutualTls ? 'mutual_tls' : unknown,
  };
}

function text(value: string | undefined): string {
  return value === undefined || value === '' ? unknown : value;
}
