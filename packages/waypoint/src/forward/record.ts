import type { HeaderChanges, Service, SocketAddress, Workload } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';
import type { Downstream, WaypointContext } from '../context.ts';
import type { HeaderList } from '../http/headers.ts';
import type { HttpError, RequestHead } from '../http/message.ts';
import { GrpcMessages } from '../observe/grpc-messages.ts';
import type { RequestFigures } from '../observe/metrics.ts';
import type { Observer } from '../observe/observer.ts';
import type { RequestTrace, TracedRequest } from '../observe/tracing.ts';
import type { Admission } from '../policy/admission.ts';
import type { EndpointHost } from './endpoint.ts';

/** What is to be told of one request when it is over, once, to the metrics, the access log and the trace. */
export class RequestRecord implements RequestFigures, TracedRequest {
  readonly #downstream: Downstream;
  readonly #request: RequestHead;
  readonly #observer: Observer;
  readonly #started = performance.now();
  readonly startTimeMs = Date.now();
  /** As it came, but for tokens. */
  path: string;
  readonly isGrpc: boolean;
  readonly #messages:
    { readonly request: GrpcMessages; readonly response: GrpcMessages } | undefined;
  #toldRequestMessages = 0;
  #toldResponseMessages = 0;
  bytesReceived = 0;
  bytesSent = 0;
  durationMs = 0;
  flags = '-';
  details = 'via_upstream';
  upstreamFailure: string | undefined;
  route = 'default';
  clusterName: string | undefined;
  host: EndpointHost | undefined;
  /** The service that a route leads to, where it is not the one that was asked for. */
  leadsTo: Service | undefined;
  cors: HeaderChanges | undefined;
  /** By what it was let in. */
  admission: Admission = byNothing;
  /** Another try would have been worth it and was not allowed. */
  exhausted = false;
  responseCode = 0;
  /** How often it was sent on. */
  attempts = 0;
  grpcStatus = '';
  upstreamServiceTimeMs: number | undefined;
  #responseHeaders: HeaderList | undefined;
  #responseTrailers: HeaderList | undefined;
  #trace: RequestTrace | undefined;
  #finished = false;

  constructor(context: WaypointContext, downstream: Downstream, request: RequestHead) {
    this.#downstream = downstream;
    this.#request = request;
    this.#observer = context.telemetry.of(downstream);
    this.path = request.path;
    this.isGrpc = request.headers.get('content-type')?.startsWith('application/grpc') === true;
    this.#messages = this.isGrpc
      ? { request: new GrpcMessages(), response: new GrpcMessages() }
      : undefined;
  }

  /** Where the request stands in its trace; it begins here where the caller told of none. */
  get trace(): RequestTrace {
    this.#trace ??= this.#observer.trace(this.#request.headers);
    return this.#trace;
  }

  received(chunk: Buffer): void {
    this.bytesReceived += chunk.length;
    this.#messages?.request.data(chunk);
  }

  sent(chunk: Buffer): void {
    this.bytesSent += chunk.length;
    this.#messages?.response.data(chunk);
  }

  answered(status: number, headers: HeaderList): void {
    this.responseCode = status;
    this.#responseHeaders = headers;
    this.upstreamServiceTimeMs = performance.now() - this.#started;
    if (this.isGrpc) this.grpcStatus = statusOf(headers.get('grpc-status')) ?? '';
    if (this.exhausted) this.flags = 'URX';
  }

  trailers(trailers: HeaderList | undefined): void {
    this.#responseTrailers = trailers;
    if (!this.isGrpc) return;
    this.grpcStatus = statusOf(trailers?.get('grpc-status')) ?? this.grpcStatus;
  }

  fail(status: number, flags: string, details: string): void {
    this.responseCode = status;
    this.flags = flags;
    this.details = details;
  }

  /** The client left, or what it sent behind the head was no body; that is answered where no answer had begun. */
  clientFailed({ code, status }: HttpError, responded: boolean): void {
    const isMalformed = code === 'http1/malformed';
    this.flags = isMalformed ? 'DPE' : 'DC';
    this.details = isMalformed ? 'http1.codec_error' : 'downstream_remote_disconnect';
    if (isMalformed && !responded) this.responseCode = status;
  }

  /** Of a stream that lasts: the messages that have passed since the last time. */
  tellMessages(): void {
    if (this.#messages === undefined || this.#finished) return;
    this.#observer.messages(this);
    this.#toldRequestMessages = this.#messages.request.count;
    this.#toldResponseMessages = this.#messages.response.count;
  }

  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.durationMs = performance.now() - this.#started;
    if (this.#trace === undefined && this.#observer.traces) this.#trace = this.trace;
    this.#observer.request(this, this.#trace);
  }

  /** Where there was no request that a span could be of. */
  finishUntraced(): void {
    this.#finished = true;
    this.#observer.request(this, undefined);
  }

  // What metrics, formats and expressions read.

  get method(): string {
    return this.#request.method;
  }
  get originalPath(): undefined {
    return undefined;
  }
  get protocol(): string {
    return this.#request.protocol;
  }
  get scheme(): string {
    return this.#request.scheme;
  }
  get authority(): string {
    return this.#request.authority;
  }
  get responseFlags(): string {
    return this.flags;
  }
  get responseCodeDetails(): string {
    return this.details;
  }
  get connectionTerminationDetails(): undefined {
    return undefined;
  }
  get upstreamTransportFailureReason(): string | undefined {
    return this.upstreamFailure;
  }
  get upstreamHost(): string | undefined {
    return this.host && addressText(this.host.address);
  }
  get upstreamCluster(): string | undefined {
    return this.clusterName;
  }
  get upstreamLocalAddress(): undefined {
    return undefined;
  }
  get downstreamLocalAddress(): string {
    const { authority, local } = this.#downstream;
    return authority === '' ? addressText(local) : authority;
  }
  get downstreamRemoteAddress(): string {
    return addressText(this.#downstream.source);
  }
  get downstreamPeerUri(): string {
    return this.#downstream.peer.uri;
  }
  get requestedServerName(): undefined {
    return undefined;
  }
  get routeName(): string {
    return this.route;
  }
  get connection(): object {
    return this.#downstream;
  }
  get source(): Workload | undefined {
    return this.#downstream.sourceWorkload;
  }
  get destination(): Workload | undefined {
    return this.host?.workload ?? this.#downstream.workload;
  }
  get service(): Service | undefined {
    return this.leadsTo ?? this.#downstream.service;
  }
  get operation(): string {
    const { service, authority, port } = this.#downstream;
    return service === undefined ? authority : `${service.hostname}:${port}`;
  }
  /** Those that have not been told yet. */
  get requestMessages(): number {
    return (this.#messages?.request.count ?? 0) - this.#toldRequestMessages;
  }
  get responseMessages(): number {
    return (this.#messages?.response.count ?? 0) - this.#toldResponseMessages;
  }
  requestHeader(name: string): string | undefined {
    return this.#request.headers.get(name);
  }
  responseHeader(name: string): string | undefined {
    return this.#responseHeaders?.get(name);
  }
  responseTrailer(name: string): string | undefined {
    return this.#responseTrailers?.get(name);
  }
  get traceId(): string | undefined {
    return this.#trace?.context.traceId;
  }
  requestHeaders(): HeaderList {
    return this.#request.headers;
  }
  responseHeaders(): Iterable<readonly [string, string]> {
    return this.#responseHeaders ?? [];
  }
}

const texts = new WeakMap<SocketAddress, string>();

/** The same few addresses are told of again and again. */
function addressText(address: SocketAddress): string {
  let text = texts.get(address);
  if (text === undefined) texts.set(address, (text = formatSocketAddress(address)));
  return text;
}

const byNothing: Admission = { known: {}, asked: [] };

/** An endpoint chooses it, so only what gRPC knows becomes a label. */
function statusOf(status: string | undefined): string | undefined {
  return status !== undefined && /^(?:[0-9]|1[0-6])$/.test(status) ? status : undefined;
}
