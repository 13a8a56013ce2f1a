import type { Port } from './address.ts';
import type { ServiceKey } from './hostname.ts';
import type { LabelPairs } from './route.ts';

/** What requests that belong together share, so that one endpoint gets them. */
export type HashKey =
  | { readonly kind: 'header' | 'query'; readonly name: string }
  | {
      readonly kind: 'cookie';
      readonly name: string;
      readonly path: string;
      /** 0 for a cookie of the browser's session; absent: no cookie is made. */
      readonly ttlSeconds?: number;
      /** Further attributes of a cookie that is made; no value where it is empty. */
      readonly attributes?: readonly (readonly [name: string, value: string])[];
    }
  | { readonly kind: 'source-ip' };

export type Balancing =
  | { readonly kind: 'round-robin' | 'least-request' | 'random' | 'passthrough' }
  | {
      readonly kind: 'ring-hash';
      readonly key: HashKey;
      readonly minimumRingSize: number;
    }
  | { readonly kind: 'maglev'; readonly key: HashKey; readonly tableSize: number };

export interface LocalityBalancing {
  readonly enabled: boolean;
  /** Shares of traffic by locality; `from` and `to` are `region/zone/subzone`, `*` for any. */
  readonly distribute: readonly {
    readonly from: string;
    readonly to: readonly (readonly [locality: string, weight: number])[];
  }[];
  readonly failover: readonly { readonly from: string; readonly to: string }[];
  /** Labels in order of importance; an endpoint that shares more of them with the proxy comes first. */
  readonly failoverPriority: readonly string[];
}

/** Absent limits are as good as endless. */
export interface PoolLimits {
  readonly maxConnections?: number;
  readonly connectTimeoutMs: number;
  readonly maxPendingRequests?: number;
  readonly maxRequests?: number;
  readonly maxRequestsPerConnection?: number;
  readonly maxRetries?: number;
  readonly idleTimeoutMs: number;
  /** The same for connections of which only bytes are known. */
  readonly tcpIdleTimeoutMs?: number;
  readonly maxConnectionDurationMs?: number;
  /** For connections that are no tunnels; absent parts are the system's. */
  readonly keepalive?: TcpKeepalive;
  readonly h2Upgrade: 'default' | 'upgrade' | 'do-not-upgrade';
  readonly useClientProtocol: boolean;
  readonly maxConcurrentStreams?: number;
}

export interface TcpKeepalive {
  /** Silence before the first probe, and between probes. */
  readonly timeMs?: number;
  readonly intervalMs?: number;
  readonly probes?: number;
}

export interface OutlierDetection {
  /** 0 turns one of them off. */
  readonly consecutive5xx: number;
  readonly consecutiveGatewayErrors: number;
  readonly consecutiveLocalOrigin: number;
  readonly splitExternalLocalOrigin: boolean;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionPercent: number;
  /** Below this share of healthy endpoints all of them are used; 0 never. */
  readonly minHealthPercent: number;
}

export type UpstreamTls =
  | { readonly mode: 'disable' }
  /** With the mesh's own certificates; endpoints that are reached by a tunnel have that already. */
  | {
      readonly mode: 'istio-mutual';
      readonly sni?: string;
      readonly subjectAltNames: readonly string[];
    }
  | {
      readonly mode: 'simple' | 'mutual';
      /** Absent: the host that the request is for. */
      readonly sni?: string;
      /** One of them must stand in the endpoint's certificate; empty: the name asked for must. */
      readonly subjectAltNames: readonly string[];
      readonly source: TlsSource;
      readonly insecureSkipVerify: boolean;
    }
  /** What was asked for cannot be done: nothing is sent. */
  | { readonly mode: 'broken'; readonly why: string };

/** Where roots, certificate and key come from. */
export type TlsSource =
  /** A `Credential` by its name, `<namespace>/<name>`. */
  | { readonly kind: 'credential'; readonly name: string }
  /** Paths in the proxy's file system. `ca` may be `system`, which is also what stands for an absent one. */
  | {
      readonly kind: 'files';
      readonly ca?: string;
      readonly certificate?: string;
      readonly privateKey?: string;
      readonly crl?: string;
    };

export interface TrafficSettings {
  readonly balancing: Balancing;
  readonly locality: LocalityBalancing;
  readonly warmup?: {
    readonly durationMs: number;
    readonly minimumPercent: number;
    readonly aggression: number;
  };
  readonly pool: PoolLimits;
  readonly outlier?: OutlierDetection;
  readonly tls?: UpstreamTls;
  readonly proxyProtocol?: 'v1' | 'v2';
  readonly retryBudget?: { readonly percent: number; readonly minRetryConcurrency: number };
}

export interface TrafficPolicy extends TrafficSettings {
  /** Settings of single service ports, which stand for all of the others. */
  readonly ports: readonly { readonly port: Port; readonly settings: TrafficSettings }[];
}

export interface Subset {
  readonly name: string;
  readonly labels: LabelPairs;
  readonly policy: TrafficPolicy;
}

/** How a service's endpoints are called (DestinationRule, resolved). */
export interface Cluster {
  readonly service: ServiceKey;
  readonly policy: TrafficPolicy;
  readonly subsets: readonly Subset[];
  /** Active checks, where the Service asks for them by annotation. */
  readonly healthCheck?: {
    readonly path: string;
    /** The service port that is checked; every one that is used when absent. */
    readonly port?: Port;
    readonly intervalMs: number;
    readonly timeoutMs: number;
    readonly unhealthyThreshold: number;
    readonly healthyThreshold: number;
  };
}

export const defaultPool: PoolLimits = {
  connectTimeoutMs: 10_000,
  idleTimeoutMs: 3_600_000,
  h2Upgrade: 'default',
  useClientProtocol: false,
};

export const defaultTraffic: TrafficPolicy = {
  balancing: { kind: 'least-request' },
  locality: { enabled: true, distribute: [], failover: [], failoverPriority: [] },
  pool: defaultPool,
  ports: [],
};
