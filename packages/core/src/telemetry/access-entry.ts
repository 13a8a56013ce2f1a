/** One request as the access log tells it: what Envoy's operators read. Absent and empty values alike become `-`. */
export interface AccessEntry {
  readonly startTimeMs: number;
  readonly method: string;
  /** As it was forwarded, with the query. */
  readonly path: string;
  /** As it came, where a route rewrote it. */
  readonly originalPath: string | undefined;
  readonly protocol: string | undefined;
  /** 0 where nothing was answered. */
  readonly responseCode: number;
  readonly responseFlags: string | undefined;
  readonly responseCodeDetails: string | undefined;
  readonly connectionTerminationDetails: string | undefined;
  readonly upstreamTransportFailureReason: string | undefined;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly durationMs: number;
  readonly upstreamServiceTimeMs: number | undefined;
  readonly upstreamHost: string | undefined;
  readonly upstreamCluster: string | undefined;
  readonly upstreamLocalAddress: string | undefined;
  readonly downstreamLocalAddress: string | undefined;
  readonly downstreamRemoteAddress: string | undefined;
  readonly downstreamPeerUri: string | undefined;
  readonly requestedServerName: string | undefined;
  readonly routeName: string | undefined;
  readonly authority: string;
  /** The number as text; empty for anything but gRPC. */
  readonly grpcStatus?: string;
  /** How often the request was sent on. */
  readonly attempts?: number;
  readonly traceId?: string | undefined;
  /** The value under a lower-case name. */
  requestHeader(name: string): string | undefined;
  responseHeader(name: string): string | undefined;
  responseTrailer?(name: string): string | undefined;
}

/** What one operator finds in an entry; a number stays one in JSON. */
export interface Read {
  (entry: AccessEntry): string | number | undefined;
  /** Differs from almost every request to the next. */
  varies?: true;
}

export function varying(read: Read): Read {
  return Object.assign(read, { varies: true as const });
}

export const absent = '-';

export function given(text: string | undefined): string | undefined {
  return text === '' || text === absent ? undefined : text;
}

/** At most so many characters, and none of them halved. */
export function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  const last = text.charCodeAt(length - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length);
}
