import type { Service, Workload } from '@ambit/api';
import type { BoundedCounter, Metrics } from '@ambit/core';

/** Labels of Istio's request metrics (contracts.md §8). */
const commonLabels = [
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_cluster',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
] as const;
const requestLabels = [...commonLabels, 'response_code', 'grpc_response_status'] as const;
type CommonLabel = (typeof commonLabels)[number];
type RequestLabel = (typeof requestLabels)[number];

// Envoy's own buckets, for milliseconds and bytes alike, as Istio's dashboards expect them.
const buckets = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000,
  1_800_000, 3_600_000,
];

export interface Parties {
  readonly source: Workload | undefined;
  readonly sourcePrincipal: string;
  readonly destination: Workload | undefined;
  readonly service: Service | undefined;
  readonly protocol: 'http' | 'grpc' | 'tcp';
  readonly flags: string;
}

export interface RequestFigures extends Parties {
  readonly status: number;
  readonly grpcStatus: string;
  readonly durationMs: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly requestMessages: number;
  readonly responseMessages: number;
}

export interface TcpFigures {
  opened(): void;
  closed(sent: number, received: number): void;
}

export interface WaypointMetrics {
  request(figures: RequestFigures): void;
  tcp(parties: Parties): TcpFigures;
  /** Messages and peers that were turned away before they were a request. */
  rejected(reason: string): void;
  dryRun(policy: string, would: 'allow' | 'deny'): void;
  audited(policy: string): void;
}

interface Series {
  readonly total: { inc(by?: number): void };
  readonly duration: { observe(value: number): void };
  readonly requestBytes: { observe(value: number): void };
  readonly responseBytes: { observe(value: number): void };
  readonly requestMessages: { inc(by?: number): void } | undefined;
  readonly responseMessages: { inc(by?: number): void } | undefined;
}

const maxSeries = 2000;
const unknown = 'unknown';

export function createWaypointMetrics(metrics: Metrics, version: string): WaypointMetrics {
  metrics
    .gauge('istio_build', 'Version of this program.', ['component', 'tag'])
    .set({ component: 'proxy', tag: version }, 1);
  const family = requestFamily(metrics);
  const tcp = {
    opened: metrics.counter(
      'istio_tcp_connections_opened_total',
      'TCP connections opened.',
      commonLabels,
    ),
    closed: metrics.counter(
      'istio_tcp_connections_closed_total',
      'TCP connections closed.',
      commonLabels,
    ),
    received: metrics.counter(
      'istio_tcp_received_bytes_total',
      'Bytes received by servers.',
      commonLabels,
    ),
    sent: metrics.counter('istio_tcp_sent_bytes_total', 'Bytes sent by servers.', commonLabels),
  };
  const rejected = metrics.counter(
    'ambit_rejected_total',
    'Messages and peers refused before they were a request.',
    ['reason'],
  );
  const dryRuns = metrics.counter(
    'ambit_dry_run_total',
    'What policies in dry run would have decided.',
    ['policy', 'would'],
  );
  const audits = metrics.counter(
    'ambit_audited_total',
    'Requests and connections that a policy of action AUDIT asks to be told.',
    ['policy'],
  );
  const seriesOf = createSeries(family);
  return {
    request(figures) {
      const series = seriesOf(figures);
      series.total.inc();
      series.duration.observe(figures.durationMs);
      series.requestBytes.observe(figures.requestBytes);
      series.responseBytes.observe(figures.responseBytes);
      series.requestMessages?.inc(figures.requestMessages);
      series.responseMessages?.inc(figures.responseMessages);
    },
    tcp(parties) {
      const labels = labelsOf(parties);
      return {
        opened: () => tcp.opened.inc(labels),
        closed: (sent, received) => {
          tcp.closed.inc(labels);
          tcp.received.inc(labels, sent);
          tcp.sent.inc(labels, received);
        },
      };
    },
    rejected: (reason) => rejected.inc({ reason }),
    dryRun: (policy, would) => dryRuns.inc({ policy, would }),
    audited: (policy) => audits.inc({ policy }),
  };
}

type Family = ReturnType<typeof requestFamily>;

function requestFamily(metrics: Metrics) {
  const counter = (name: string, help: string): BoundedCounter<RequestLabel> =>
    metrics.counter(name, help, requestLabels);
  const histogram = (name: string, help: string) =>
    metrics.histogram(name, help, requestLabels, buckets);
  return {
    total: counter('istio_requests_total', 'Requests served.'),
    duration: histogram('istio_request_duration_milliseconds', 'Duration of requests.'),
    requestBytes: histogram('istio_request_bytes', 'Sizes of request bodies.'),
    responseBytes: histogram('istio_response_bytes', 'Sizes of response bodies.'),
    requestMessages: counter('istio_request_messages_total', 'gRPC messages of clients.'),
    responseMessages: counter('istio_response_messages_total', 'gRPC messages of servers.'),
  };
}

/** The series of a request, looked up by what it is made of once and kept. */
function createSeries(family: Family): (figures: RequestFigures) => Series {
  const known = new Map<string, Series>();
  const seriesOf = (figures: RequestFigures): Series => {
    const key = `${figures.source?.uid ?? ''}|${figures.sourcePrincipal}|${figures.destination?.uid ?? ''}|${figures.service?.hostname ?? ''}|${figures.service?.namespace ?? ''}|${figures.protocol}|${figures.flags}|${figures.status}|${figures.grpcStatus}`;
    let series = known.get(key);
    if (series !== undefined) return series;
    // Workloads come and go; what the keys say is remembered no longer than that.
    if (known.size >= maxSeries) known.clear();
    const labels: Record<RequestLabel, string> = {
      ...labelsOf(figures),
      response_code: String(figures.status),
      grpc_response_status: figures.grpcStatus,
    };
    const bounded = family.total.series < maxSeries ? labels : overflow;
    const grpc = figures.protocol === 'grpc';
    series = {
      total: family.total.child(labels),
      duration: family.duration.labels(bounded),
      requestBytes: family.requestBytes.labels(bounded),
      responseBytes: family.responseBytes.labels(bounded),
      requestMessages: grpc ? family.requestMessages.child(labels) : undefined,
      responseMessages: grpc ? family.responseMessages.child(labels) : undefined,
    };
    known.set(key, series);
    return series;
  };
  return seriesOf;
}

const overflow = Object.fromEntries(requestLabels.map((label) => [label, 'overflow'])) as Record<
  RequestLabel,
  string
>;

function labelsOf(parties: Parties): Record<CommonLabel, string> {
  const { service, protocol, flags } = parties;
  return {
    reporter: 'waypoint',
    ...sourceLabels(parties.source, parties.sourcePrincipal),
    destination_service: service?.hostname ?? unknown,
    destination_service_namespace: service?.namespace ?? parties.destination?.namespace ?? unknown,
    destination_service_name: service?.name ?? unknown,
    ...destinationLabels(parties.destination),
    request_protocol: protocol,
    response_flags: flags,
    connection_security_policy: 'mutual_tls',
  };
}

function sourceLabels(source: Workload | undefined, principal: string) {
  return {
    source_workload: source?.workloadName ?? unknown,
    source_canonical_service: source?.canonicalName ?? unknown,
    source_canonical_revision: source?.canonicalRevision ?? unknown,
    source_workload_namespace: source?.namespace ?? unknown,
    source_principal: principal,
    source_app: source?.canonicalName ?? unknown,
    source_version: source?.canonicalRevision ?? unknown,
    source_cluster: source?.clusterId ?? unknown,
  };
}

function destinationLabels(destination: Workload | undefined) {
  if (destination === undefined) return noDestination;
  const { trustDomain, namespace, serviceAccount } = destination;
  return {
    destination_workload: destination.workloadName,
    destination_canonical_service: destination.canonicalName,
    destination_canonical_revision: destination.canonicalRevision,
    destination_workload_namespace: namespace,
    destination_principal: `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`,
    destination_app: destination.canonicalName,
    destination_version: destination.canonicalRevision,
    destination_cluster: destination.clusterId,
  };
}

const noDestination = {
  destination_workload: unknown,
  destination_canonical_service: unknown,
  destination_canonical_revision: unknown,
  destination_workload_namespace: unknown,
  destination_principal: unknown,
  destination_app: unknown,
  destination_version: unknown,
  destination_cluster: unknown,
};
