import type { Cidr, Port } from './address.ts';
import type { ServiceKey } from './hostname.ts';

/**
 * How a part of a request is compared. `path-prefix` is by whole path segments (Gateway API), `prefix` by characters
 * (Istio); `regex` is RE2 syntax and must match the whole value; `present` only asks whether it is there.
 */
export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'path-prefix' | 'regex'; readonly value: string }
  | { readonly kind: 'present' };

export interface NamedMatch {
  /** Lower case for a header, as written for a query parameter. */
  readonly name: string;
  readonly match: StringMatch;
}

export type LabelPairs = readonly (readonly [name: string, value: string])[];

/** Who asks, as far as routes may tell callers apart. */
export interface SourceMatch {
  readonly sourceLabels: LabelPairs;
  readonly sourceNamespace?: string;
  /** Port of the service that was asked for; every port when absent. */
  readonly port?: Port;
}

/** All that is named must hold. */
export interface HttpMatch extends SourceMatch {
  readonly path?: StringMatch;
  readonly ignorePathCase: boolean;
  readonly scheme?: StringMatch;
  readonly method?: StringMatch;
  readonly authority?: StringMatch;
  readonly headers: readonly NamedMatch[];
  readonly withoutHeaders: readonly NamedMatch[];
  readonly query: readonly NamedMatch[];
}

/** In this order: removed, set, added. Names are lower case. */
export interface HeaderChanges {
  readonly remove: readonly string[];
  readonly set: readonly (readonly [name: string, value: string])[];
  readonly add: readonly (readonly [name: string, value: string])[];
  /** Set and added after the others: values in Envoy's format strings, written anew for each message. */
  readonly formats?: {
    readonly set: readonly (readonly [name: string, format: string])[];
    readonly add: readonly (readonly [name: string, format: string])[];
  };
}

/** Where a share of the traffic goes. A `missing` one answers 500, so that nothing is let past it. */
export type Target =
  | {
      readonly kind: 'service';
      readonly service: ServiceKey;
      readonly port: Port;
      readonly subset?: string;
    }
  | { readonly kind: 'missing'; readonly why: string };

export interface WeightedTarget {
  /** Shares of their sum; a sum of 0 answers 500. */
  readonly weight: number;
  readonly target: Target;
  readonly request: HeaderChanges;
  readonly response: HeaderChanges;
}

export type PathRewrite =
  /** Replaces what the route's prefix match matched, or the whole path where it matched otherwise. */
  | { readonly kind: 'prefix'; readonly matched: string; readonly value: string }
  | { readonly kind: 'full'; readonly value: string }
  /** RE2; `\1` names a group. */
  | { readonly kind: 'regex'; readonly match: string; readonly rewrite: string };

export interface Rewrite {
  readonly path?: PathRewrite;
  readonly authority?: string;
}

export interface Redirect {
  readonly scheme?: string;
  readonly authority?: string;
  readonly port?: Port;
  /** `from-protocol` leaves out the port that the scheme implies, `from-request` the one that was asked for. */
  readonly derivePort?: 'from-protocol' | 'from-request';
  readonly path?: PathRewrite;
  readonly status: number;
}

export type HttpAction =
  | {
      readonly kind: 'forward';
      readonly targets: readonly WeightedTarget[];
      readonly rewrite: Rewrite;
    }
  | { readonly kind: 'redirect'; readonly redirect: Redirect }
  | {
      readonly kind: 'respond';
      readonly status: number;
      readonly body: string;
      /** Of a body that is no text; as it stands when absent. */
      readonly encoding?: 'base64';
      readonly contentType: string;
    };

/** Envoy's words for what is worth another try. */
export const retryConditions = [
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'retriable-4xx',
  'refused-stream',
  'retriable-status-codes',
  'retriable-headers',
  'envoy-ratelimited',
  'http3-post-connect-failure',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
] as const;
export type RetryCondition = (typeof retryConditions)[number];

export interface RetryPolicy {
  /** Tries after the first. */
  readonly attempts: number;
  /** For the head of the answer, from when the request is there to its end. */
  readonly perTryTimeoutMs?: number;
  readonly on: readonly RetryCondition[];
  readonly statuses: readonly number[];
  /** Base of the exponential, jittered wait between tries. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** True: repeats leave the localities in which the request has been. */
  readonly remoteLocalities: boolean;
  readonly ignorePreviousHosts: boolean;
  /** Repeat what is not idempotent and may have reached the application, because the owner said so. */
  readonly evenIfNotIdempotent: boolean;
}

/** What Istio does where nobody has said anything. */
export const defaultRetry: RetryPolicy = {
  attempts: 2,
  on: ['connect-failure', 'refused-stream', 'reset-before-request', 'unavailable', 'cancelled'],
  statuses: [503],
  backoffMs: 25,
  maxBackoffMs: 250,
  remoteLocalities: false,
  ignorePreviousHosts: true,
  evenIfNotIdempotent: false,
};

/** Percentages are from 0 to 100. */
export interface Fault {
  readonly delay?: { readonly percentage: number; readonly ms: number };
  readonly abort?: {
    readonly percentage: number;
    readonly status: number;
    readonly grpcStatus?: number;
  };
}

export interface Mirror {
  readonly target: Target;
  readonly percentage: number;
}

export interface CorsPolicy {
  readonly allowOrigins: readonly StringMatch[];
  readonly allowMethods: readonly string[];
  readonly allowHeaders: readonly string[];
  readonly exposeHeaders: readonly string[];
  readonly maxAgeSeconds?: number;
  readonly allowCredentials: boolean;
  /** Preflights of origins that are not allowed go on to the service. */
  readonly forwardUnmatchedPreflights: boolean;
}

export interface HttpRoute {
  /** For the log and traces: `<kind>/<namespace>/<name>[/<rule>]`. */
  readonly name: string;
  /** Any of them; none of them means every request. */
  readonly matches: readonly HttpMatch[];
  readonly action: HttpAction;
  readonly request: HeaderChanges;
  readonly response: HeaderChanges;
  /** From the end of the request to the end of the answer, tries together; absent for none. */
  readonly timeoutMs?: number;
  readonly retry?: RetryPolicy;
  readonly fault: Fault;
  readonly mirrors: readonly Mirror[];
  readonly cors?: CorsPolicy;
  /**
   * A part of the matches could not be read, so that they hold for more than was meant. What a route of another object
   * takes is left to it.
   */
  readonly unsure?: boolean;
  /** `<kind>/<namespace>/<name>` of the object that the route belongs to, where its name tells of another (a delegate). */
  readonly object?: string;
}

export interface TcpMatch extends SourceMatch {
  readonly destinationSubnets: readonly Cidr[];
}

export interface TcpRoute {
  readonly name: string;
  readonly matches: readonly TcpMatch[];
  readonly targets: readonly WeightedTarget[];
}

export interface TlsMatch extends TcpMatch {
  /** Names, `*.` in front for every name below; none means any. */
  readonly sniHosts: readonly string[];
}

export interface TlsRoute {
  readonly name: string;
  readonly matches: readonly TlsMatch[];
  readonly targets: readonly WeightedTarget[];
}

/**
 * What becomes of requests to one service, first match first. A table without HTTP routes leaves requests to the
 * service itself; one with them answers 404 to what none of them matches.
 */
export interface RouteTable {
  readonly service: ServiceKey;
  readonly http: readonly HttpRoute[];
  readonly tls: readonly TlsRoute[];
  readonly tcp: readonly TcpRoute[];
}

export const noChanges: HeaderChanges = { remove: [], set: [], add: [] };
