import type { HeaderChanges } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import type { HeaderList } from '../http/headers.ts';
import type { RequestHead } from '../http/message.ts';
import type { EndpointHost } from './endpoint.ts';

/** What is to be told of one request when it is over, once, to the metrics and the access log. */
export class RequestRecord {
  readonly #context: WaypointContext;
  readonly #downstream: Downstream;
  readonly #request: RequestHead;
  readonly #path: string;
  readonly #startMs = Date.now();
  readonly #started = performance.now();
  readonly #grpc: boolean;
  requestBytes = 0;
  responseBytes = 0;
  flags = '-';
  details = 'via_upstream';
  upstreamFailure = '-';
  route = 'default';
  clusterName: string | undefined;
  host: EndpointHost | undefined;
  cors: HeaderChanges | undefined;
  /** Another try would have been worth it and was not allowed. */
  exhausted = false;
  #status = 0;
  #grpcStatus = '';
  #answeredMs: number | undefined;
  #finished = false;

  constructor(context: WaypointContext, downstream: Downstream, request: RequestHead) {
    this.#context = context;
    this.#downstream = downstream;
    this.#request = request;
    this.#path = request.path;
    this.#grpc = request.headers.get('content-type')?.startsWith('application/grpc') === true;
  }

  answered(status: number, headers: HeaderList): void {
    this.#status = status;
    this.#answeredMs = performance.now() - this.#started;
    this.#grpcStatus = headers.get('grpc-status') ?? '';
    if (this.exhausted) this.flags = 'URX';
  }

  trailers(trailers: HeaderList | undefined): void {
    this.#grpcStatus = trailers?.get('grpc-status') ?? this.#grpcStatus;
  }

  fail(status: number, flags: string, details: string): void {
    this.#status = status;
    this.flags = flags;
    this.details = details;
  }

  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    const { metrics, access } = this.#context;
    const { peer, sourceWorkload, service, workload, source, local, authority } = this.#downstream;
    const durationMs = performance.now() - this.#started;
    metrics.request({
      source: sourceWorkload,
      sourcePrincipal: peer.uri,
      destination: this.host?.workload ?? workload,
      service,
      protocol: this.#grpc ? 'grpc' : 'http',
      flags: this.flags,
      status: this.#status,
      grpcStatus: this.#grpcStatus,
      durationMs,
      requestBytes: this.requestBytes,
      responseBytes: this.responseBytes,
      requestMessages: 0,
      responseMessages: 0,
    });
    const { headers } = this.#request;
    access.write({
      startMs: this.#startMs,
      method: this.#request.method,
      path: this.#path,
      protocol: this.#request.protocol,
      status: this.#status,
      flags: this.flags,
      details: this.details,
      upstreamFailure: this.upstreamFailure,
      bytesReceived: this.requestBytes,
      bytesSent: this.responseBytes,
      durationMs: Math.round(durationMs),
      upstreamServiceTimeMs: this.#answeredMs && Math.round(this.#answeredMs),
      forwardedFor: headers.get('x-forwarded-for'),
      userAgent: headers.get('user-agent'),
      requestId: headers.get('x-request-id') ?? '-',
      authority: this.#request.authority,
      upstreamHost: this.host && formatSocketAddress(this.host.address),
      upstreamCluster: this.clusterName,
      downstreamLocal: authority === '' ? formatSocketAddress(local) : authority,
      downstreamRemote: formatSocketAddress(source),
      route: this.route,
    });
  }
}
