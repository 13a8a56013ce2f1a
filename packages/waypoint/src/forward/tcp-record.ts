import type { Service, Workload } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';
import type { TelemetryFacts } from '@ambit/core';
import type { Downstream } from '../context.ts';
import type { Observer } from '../observe/observer.ts';
import type { TcpFigures } from '../observe/metrics.ts';
import type { EndpointHost } from './endpoint.ts';

// As Envoy logs a connection: there is no request to tell of.
const none = '-';
/** How often a connection that stays open tells what has passed. */
const reportMs = 5_000;

/** What is to be told of one connection of which only bytes are known. */
export class TcpRecord implements TelemetryFacts {
  readonly #downstream: Downstream;
  readonly #observer: Observer;
  readonly #started = performance.now();
  readonly startTimeMs = Date.now();
  readonly method = none;
  readonly path = none;
  readonly originalPath = undefined;
  readonly protocol = undefined;
  readonly scheme = 'tcp';
  readonly authority = none;
  readonly responseCode = 0;
  readonly grpcStatus = '';
  readonly responseCodeDetails = undefined;
  readonly upstreamServiceTimeMs = undefined;
  readonly upstreamLocalAddress = undefined;
  readonly routeName = undefined;
  readonly requestedServerName: string | undefined;
  bytesReceived = 0;
  bytesSent = 0;
  durationMs = 0;
  responseFlags = '-';
  connectionTerminationDetails: string | undefined;
  upstreamTransportFailureReason: string | undefined;
  upstreamCluster: string | undefined;
  host: EndpointHost | undefined;
  /** The service that a route leads to, where it is not the one that was asked for. */
  leadsTo: Service | undefined;
  #figures: TcpFigures | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(observer: Observer, downstream: Downstream, serverName: string | undefined) {
    this.#observer = observer;
    this.#downstream = downstream;
    this.requestedServerName = serverName;
  }

  /** It is open; `counts` grow as bytes pass. */
  opened(counts: { readonly sent: number; readonly received: number }): void {
    this.#figures = this.#observer.tcp(this);
    this.#figures.opened();
    this.#timer = setInterval(() => this.#report(counts), reportMs);
    this.#timer.unref();
  }

  #report({ sent, received }: { readonly sent: number; readonly received: number }): void {
    // Of the server, as Istio has it: what the client sent is what was received.
    this.#figures?.bytes(sent - this.bytesReceived, received - this.bytesSent);
    this.bytesReceived = sent;
    this.bytesSent = received;
  }

  closed(counts: { readonly sent: number; readonly received: number }): void {
    clearInterval(this.#timer);
    this.#report(counts);
    this.#figures?.closed();
    this.#end();
  }

  /** It is ended by the proxy. */
  cut(flags: string, details: string): void {
    this.responseFlags = flags;
    this.connectionTerminationDetails = details;
  }

  /** It was refused, or never came about. */
  failed(flags: string, details: string): void {
    this.responseFlags = flags;
    this.connectionTerminationDetails = details;
    const figures = this.#observer.tcp(this);
    figures.opened();
    figures.closed();
    this.#end();
  }

  #end(): void {
    this.durationMs = performance.now() - this.#started;
    this.#observer.connection(this);
  }

  get upstreamHost(): string | undefined {
    return this.host && formatSocketAddress(this.host.address);
  }
  get downstreamLocalAddress(): string {
    const { authority, local } = this.#downstream;
    return authority === '' ? formatSocketAddress(local) : authority;
  }
  get downstreamRemoteAddress(): string {
    return formatSocketAddress(this.#downstream.source);
  }
  get downstreamPeerUri(): string {
    return this.#downstream.peer.uri;
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
  requestHeader(): undefined {
    return undefined;
  }
  responseHeader(): undefined {
    return undefined;
  }
  requestHeaders(): [] {
    return [];
  }
  responseHeaders(): [] {
    return [];
  }
}
