import type { TelemetryFacts } from '@ambit/core';
import { unknown } from '@ambit/core';
import type { TraceContext } from './trace-context.ts';

export interface Span {
  readonly name: string;
  /** `server` for the request as it came, `client` for a try as it was sent on. */
  readonly kind: 'server' | 'client';
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, string>>;
  readonly error: boolean;
}

/** Who tells of the request: the proxy, in Istio's terms. */
export interface SpanReporter {
  readonly nodeId: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  readonly namespace: string;
  readonly meshId: string;
  readonly clusterId: string;
}

export interface RequestSpan {
  readonly kind: 'server' | 'client';
  readonly context: TraceContext;
  /** The host and port of whom the request is for; the span is named `<operation>/*`, as Istio names it. */
  readonly operation: string;
  readonly entry: TelemetryFacts;
  /** When it was sent on; when it came where absent. */
  readonly startMs?: number;
  readonly reporter: SpanReporter;
  readonly istioTags: boolean;
  /** Bound on a path within a span; 0 for Istio's own. */
  readonly maxPathChars: number;
  readonly customTags: readonly (readonly [name: string, value: string])[];
}

const defaultPathChars = 256;
const maxValueChars = 1024;

// Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss: the server's fault, not the caller's.
const grpcErrors: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15]);

/** One request as a span, with the attributes by which Istio's users search. */
export function requestSpan(request: RequestSpan): Span {
  const { context, entry, kind } = request;
  const grpcStatus = entry.grpcStatus === '' ? undefined : Number(entry.grpcStatus);
  return {
    name: `${request.operation}/*`,
    kind,
    traceId: context.traceId,
    spanId: context.spanId,
    parentSpanId: context.parentSpanId,
    startMs: request.startMs ?? entry.startTimeMs,
    endMs: entry.startTimeMs + Math.max(0, entry.durationMs),
    attributes: {
      component: 'proxy',
      ...requestAttributes(request),
      ...responseAttributes(entry),
      ...(request.istioTags ? reporterAttributes(request) : {}),
      ...(grpcStatus !== undefined && { 'grpc.status_code': String(grpcStatus) }),
      ...Object.fromEntries(request.customTags.map(([name, value]) => [name, bounded(value)])),
    },
    error:
      entry.responseCode === 0 ||
      entry.responseCode >= 500 ||
      (grpcStatus !== undefined && grpcErrors.has(grpcStatus)),
  };
}

function requestAttributes({ entry, maxPathChars }: RequestSpan): Record<string, string> {
  const path = (entry.originalPath ?? entry.path).slice(0, maxPathChars || defaultPathChars);
  return {
    'guid:x-request-id': bounded(entry.requestHeader('x-request-id')),
    'http.url': `${entry.scheme}://${bounded(entry.authority)}${path}`,
    'http.method': bounded(entry.method),
    'http.protocol': bounded(entry.protocol),
    user_agent: bounded(entry.requestHeader('user-agent')),
    'peer.address': addressOnly(entry.downstreamRemoteAddress),
    request_size: String(entry.bytesReceived),
  };
}

function responseAttributes(entry: TelemetryFacts): Record<string, string> {
  return {
    'http.status_code': String(entry.responseCode),
    response_size: String(entry.bytesSent),
    response_flags: bounded(entry.responseFlags),
    upstream_cluster: bounded(entry.upstreamCluster),
    'upstream_cluster.name': bounded(entry.upstreamCluster),
    ...(entry.upstreamHost !== undefined && { upstream_address: entry.upstreamHost }),
  };
}

function reporterAttributes(request: RequestSpan): Record<string, string> {
  const { reporter, entry } = request;
  const source = {
    workload: entry.source?.workloadName ?? unknown,
    namespace: entry.source?.namespace ?? unknown,
  };
  const destination = {
    workload: entry.destination?.workloadName ?? unknown,
    namespace: entry.destination?.namespace ?? unknown,
  };
  return {
    node_id: reporter.nodeId,
    'istio.canonical_service': reporter.canonicalService,
    'istio.canonical_revision': reporter.canonicalRevision,
    'istio.namespace': reporter.namespace,
    'istio.mesh_id': reporter.meshId,
    'istio.cluster_id': reporter.clusterId,
    'istio.source_workload': source.workload,
    'istio.source_namespace': source.namespace,
    'istio.destination_workload': destination.workload,
    'istio.destination_namespace': destination.namespace,
    'istio.downstream.workload': source.workload,
    'istio.downstream.namespace': source.namespace,
    'istio.upstream.workload': destination.workload,
    'istio.upstream.namespace': destination.namespace,
  };
}

function bounded(text: string | undefined): string {
  return text === undefined || text === '' ? '-' : text.slice(0, maxValueChars);
}

/** Without the port, by which nobody searches. */
function addressOnly(address: string | undefined): string {
  if (address === undefined || address === '') return '-';
  return /^\[([^\]]+)\](?::\d+)?$/.exec(address)?.[1] ?? address.replace(/^([^:]+):\d+$/, '$1');
}
