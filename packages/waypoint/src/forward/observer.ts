import type { EndpointHost } from './endpoint.ts';
import type { Ejection } from './outlier.ts';

/** The limits of a circuit breaker. */
export type Limit = 'requests' | 'pending' | 'connections' | 'retries' | 'retry-budget';

/** How many endpoints of a cluster are in which state. */
export interface EndpointCounts {
  readonly healthy: number;
  readonly ejected: number;
  readonly unhealthy: number;
}

/** Who is told what happens to clusters, for logs and metrics. */
export interface ClusterObserver {
  ejected(cluster: string, host: EndpointHost, ejection: Ejection): void;
  returned(cluster: string, host: EndpointHost): void;
  /** Active checks have come to another opinion. */
  checked(cluster: string, host: EndpointHost, healthy: boolean): void;
  counted(cluster: string, counts: EndpointCounts): void;
  overflowed(cluster: string, limit: Limit): void;
  removed(cluster: string): void;
}

export const unobserved: ClusterObserver = {
  ejected: () => undefined,
  returned: () => undefined,
  checked: () => undefined,
  counted: () => undefined,
  overflowed: () => undefined,
  removed: () => undefined,
};
