import type { MetricName } from '@ambit/api';
import type {
  BoundedCounter,
  BoundedHistogram,
  CounterSeries,
  HistogramSeries,
  Labels,
  Metrics,
  TelemetryFacts,
} from '@ambit/core';
import { trafficLabels } from '@ambit/core';
import { labelsOf, requestLabels, requestLabelsOf } from './labels.ts';

// Envoy's own buckets, for milliseconds and bytes alike, as Istio's dashboards expect them.
const buckets = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000,
  1_800_000, 3_600_000,
];

export interface RequestFigures extends TelemetryFacts {
  /** The same object for requests that have their client and whom they are for in common. */
  readonly connection: object;
  readonly isGrpc: boolean;
  /** Of gRPC, those that have not been told yet. */
  readonly requestMessages: number;
  readonly responseMessages: number;
}

export interface TcpFigures {
  opened(): void;
  /** Since the last call. */
  bytes(received: number, sent: number): void;
  closed(): void;
}

/** What a Telemetry resource changes of a metric. */
export interface MetricChange {
  readonly disabled: boolean;
  readonly tags: readonly {
    readonly name: string;
    /** Absent where the tag is removed. */
    readonly read: ((facts: TelemetryFacts) => string) | undefined;
  }[];
}
export type MetricChanges = ReadonlyMap<MetricName, MetricChange>;

/** Counts by one set of changes. */
export interface Recorder {
  request(figures: RequestFigures): void;
  /** The messages of a gRPC stream that is not over. */
  messages(figures: RequestFigures): void;
  tcp(facts: TelemetryFacts): TcpFigures;
}

export interface WaypointMetrics {
  recorder(changes: MetricChanges): Recorder;
  /** Messages and peers that were turned away before they were a request. */
  rejected(reason: string): void;
  dryRun(policy: string, would: 'allow' | 'deny'): void;
  audited(policy: string): void;
  /** What an external authorizer said, or that it could not be asked. */
  authorized(provider: string, outcome: 'ok' | 'denied' | 'error' | 'failure-allowed'): void;
  /** A limit was exceeded, or would have been. */
  rateLimited(policy: string, limit: string, enforced: boolean): void;
  spansDropped(count: number): void;
  /** A copy that was not sent because the request's body was too long to be kept. */
  mirrorSkipped(cluster: string): void;
}

const maxSeries = 2000;

export function createWaypointMetrics(metrics: Metrics, version: string): WaypointMetrics {
  metrics
    .gauge('istio_build', 'Version of this program.', ['component', 'tag'])
    .set({ component: 'proxy', tag: version }, 1);
  const family = familyOf(metrics);
  const rejected = metrics.counter(
    'ambit_rejected_total',
    'Messages and peers refused before they were a request.',
    ['reason'],
  );
  const limited = metrics.counter(
    'ambit_rate_limited_total',
    'Requests over a limit, by whether they were refused for it.',
    ['policy', 'limit', 'enforced'],
  );
  const authorized = metrics.counter(
    'ambit_external_authorization_total',
    'What external authorizers said of requests.',
    ['provider', 'outcome'],
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
  const dropped = metrics.counter(
    'ambit_spans_dropped_total',
    'Spans of traces that no collector took.',
    [],
  );
  const unmirrored = metrics.counter(
    'ambit_mirror_skipped_total',
    'Copies not sent because the body of the request was too long to be kept.',
    ['cluster'],
  );
  return {
    recorder: (changes) => new SeriesRecorder(family, changes),
    rejected: (reason) => rejected.inc({ reason }),
    dryRun: (policy, would) => dryRuns.inc({ policy, would }),
    authorized: (provider, outcome) => authorized.inc({ provider, outcome }),
    audited: (policy) => audits.inc({ policy }),
    rateLimited: (policy, limit, enforced) =>
      limited.inc({ policy, limit, enforced: String(enforced) }),
    spansDropped: (count) => dropped.inc({}, count),
    mirrorSkipped: (cluster) => unmirrored.inc({ cluster }),
  };
}

type Family = ReturnType<typeof familyOf>;

function familyOf(metrics: Metrics) {
  const counter = (name: string, help: string): BoundedCounter<string> =>
    metrics.counter<string>(name, help, requestLabels);
  const histogram = (name: string, help: string): BoundedHistogram =>
    metrics.histogram(name, help, requestLabels, buckets);
  const tcp = (name: string, help: string): BoundedCounter<string> =>
    metrics.counter<string>(name, help, trafficLabels);
  return {
    REQUEST_COUNT: counter('istio_requests_total', 'Requests served.'),
    REQUEST_DURATION: histogram('istio_request_duration_milliseconds', 'Duration of requests.'),
    REQUEST_SIZE: histogram('istio_request_bytes', 'Sizes of request bodies.'),
    RESPONSE_SIZE: histogram('istio_response_bytes', 'Sizes of response bodies.'),
    GRPC_REQUEST_MESSAGES: counter('istio_request_messages_total', 'gRPC messages of clients.'),
    GRPC_RESPONSE_MESSAGES: counter('istio_response_messages_total', 'gRPC messages of servers.'),
    TCP_OPENED_CONNECTIONS: tcp('istio_tcp_connections_opened_total', 'TCP connections opened.'),
    TCP_CLOSED_CONNECTIONS: tcp('istio_tcp_connections_closed_total', 'TCP connections closed.'),
    TCP_RECEIVED_BYTES: tcp('istio_tcp_received_bytes_total', 'Bytes received by servers.'),
    TCP_SENT_BYTES: tcp('istio_tcp_sent_bytes_total', 'Bytes sent by servers.'),
  };
}

interface Series {
  readonly total: CounterSeries;
  readonly duration: HistogramSeries;
  readonly requestBytes: HistogramSeries;
  readonly responseBytes: HistogramSeries;
  readonly requestMessages: CounterSeries;
  readonly responseMessages: CounterSeries;
}

/** Where a request of a connection was counted, and what of it says so. */
interface Recent extends Pick<
  RequestFigures,
  'destination' | 'service' | 'isGrpc' | 'responseFlags' | 'responseCode' | 'grpcStatus'
> {
  readonly series: Series;
}

function isLike(recent: Recent, figures: RequestFigures): boolean {
  return (
    recent.destination === figures.destination &&
    recent.service === figures.service &&
    recent.responseCode === figures.responseCode &&
    recent.responseFlags === figures.responseFlags &&
    recent.isGrpc === figures.isGrpc &&
    recent.grpcStatus === figures.grpcStatus
  );
}

const none: readonly string[] = [];
const nothing: CounterSeries & HistogramSeries = { inc: () => undefined, observe: () => undefined };

function countMessages(
  series: Series,
  { requestMessages, responseMessages }: RequestFigures,
): void {
  series.requestMessages.inc(requestMessages);
  series.responseMessages.inc(responseMessages);
}

/** The series of a request are looked up by what it is made of, once, and kept. */
class SeriesRecorder implements Recorder {
  readonly #family: Family;
  readonly #changes: MetricChanges;
  /** Every expression once, however many metrics have it as a tag. */
  readonly #reads: readonly ((facts: TelemetryFacts) => string)[];
  readonly #known = new Map<string, Series>();
  /** The next request of a connection mostly counts where the last one did. */
  readonly #recent = new WeakMap<object, Recent>();

  constructor(family: Family, changes: MetricChanges) {
    this.#family = family;
    this.#changes = changes;
    const reads = [...changes.values()].flatMap(({ tags }) =>
      tags.flatMap(({ read }) => read ?? []),
    );
    this.#reads = [...new Set(reads)];
  }

  request(figures: RequestFigures): void {
    const series = this.#recentOf(figures) ?? this.#seriesOf(figures);
    series.total.inc();
    series.duration.observe(figures.durationMs);
    series.requestBytes.observe(figures.bytesReceived);
    series.responseBytes.observe(figures.bytesSent);
    if (figures.isGrpc) countMessages(series, figures);
  }

  messages(figures: RequestFigures): void {
    if (figures.requestMessages + figures.responseMessages === 0) return;
    countMessages(this.#seriesOf(figures), figures);
  }

  #recentOf(figures: RequestFigures): Series | undefined {
    // What an expression says may differ from one request to the next.
    if (this.#reads.length > 0) return undefined;
    const recent = this.#recent.get(figures.connection);
    if (recent !== undefined && isLike(recent, figures)) return recent.series;
    const { destination, service, isGrpc, responseFlags, responseCode, grpcStatus } = figures;
    const series = this.#seriesOf(figures);
    this.#recent.set(figures.connection, {
      destination,
      service,
      isGrpc,
      responseFlags,
      responseCode,
      grpcStatus,
      series,
    });
    return series;
  }

  #seriesOf(figures: RequestFigures): Series {
    let key = keyOf(figures);
    const values = this.#reads.length === 0 ? none : this.#reads.map((read) => read(figures));
    for (const value of values) key += `|${value.length}:${value}`;
    let series = this.#known.get(key);
    if (series !== undefined) return series;
    // Workloads come and go; what the keys say is remembered no longer than that.
    if (this.#known.size >= maxSeries) this.#known.clear();
    const grpc = figures.isGrpc;
    const labels = requestLabelsOf(figures, grpc ? 'grpc' : 'http');
    const child = <N extends MetricName>(
      name: N,
    ): ReturnType<Family[N]['child']> | typeof nothing => this.#child(name, labels, values);
    series = {
      total: child('REQUEST_COUNT'),
      duration: child('REQUEST_DURATION'),
      requestBytes: child('REQUEST_SIZE'),
      responseBytes: child('RESPONSE_SIZE'),
      requestMessages: grpc ? child('GRPC_REQUEST_MESSAGES') : nothing,
      responseMessages: grpc ? child('GRPC_RESPONSE_MESSAGES') : nothing,
    };
    this.#known.set(key, series);
    return series;
  }

  tcp(facts: TelemetryFacts): TcpFigures {
    const labels = labelsOf(facts, 'tcp');
    const values = this.#reads.map((read) => read(facts));
    const opened = this.#child('TCP_OPENED_CONNECTIONS', labels, values);
    const closed = this.#child('TCP_CLOSED_CONNECTIONS', labels, values);
    const received = this.#child('TCP_RECEIVED_BYTES', labels, values);
    const sent = this.#child('TCP_SENT_BYTES', labels, values);
    return {
      opened: () => opened.inc(),
      bytes: (more, back) => {
        received.inc(more);
        sent.inc(back);
      },
      closed: () => closed.inc(),
    };
  }

  #child<N extends MetricName>(
    name: N,
    labels: Labels,
    values: readonly string[],
  ): ReturnType<Family[N]['child']> | typeof nothing {
    const change = this.#changes.get(name);
    if (change?.disabled === true) return nothing;
    const own = change === undefined ? labels : this.#tagged(change, labels, values);
    return this.#family[name].child(own) as ReturnType<Family[N]['child']>;
  }

  #tagged({ tags }: MetricChange, labels: Labels, values: readonly string[]): Labels {
    const own = new Map(Object.entries(labels));
    for (const { name, read } of tags) {
      if (read === undefined) own.delete(name);
      else own.set(name, values[this.#reads.indexOf(read)] ?? '');
    }
    return Object.fromEntries(own);
  }
}

/** All that the labels of a request are made of. */
function keyOf(figures: RequestFigures): string {
  const { source, destination, service } = figures;
  const ends = `${source?.uid ?? ''}|${figures.downstreamPeerUri ?? ''}|${destination?.uid ?? ''}|${service?.hostname ?? ''}|${service?.namespace ?? ''}`;
  return `${ends}|${figures.isGrpc ? 'grpc' : ''}|${figures.responseFlags ?? ''}|${figures.responseCode}|${figures.grpcStatus}`;
}
