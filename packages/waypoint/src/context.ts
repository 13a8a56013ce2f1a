import type {
  Gateway,
  PolicyTarget,
  Port,
  Service,
  SocketAddress,
  SpiffeIdentity,
  Workload,
} from '@ambit/api';
import type { Logger, MeshState } from '@ambit/core';
import type { MeshClient } from './client/index.ts';
import type { Clusters } from './forward/clusters.ts';
import type { OpenStream } from './forward/endpoint.ts';
import type { Names } from './forward/names.ts';
import type { Bindings } from './inbound/bindings.ts';
import type { WaypointMetrics } from './observe/metrics.ts';
import type { ObservedTraffic, Observer } from './observe/observer.ts';
import type { PolicyCache } from './policy/cache.ts';
import type { LiveTraffic } from './policy/live.ts';
import type { RateLimiter } from './policy/rate-limit/limiter.ts';
import type { TokenVerifier } from './policy/tokens.ts';
import type { RouteIndexes } from './route/indexes.ts';

/** What every request is served with. */
export interface WaypointContext {
  readonly state: MeshState;
  readonly clusters: Clusters;
  readonly names: Names;
  readonly open: OpenStream;
  readonly client: MeshClient;
  readonly routes: RouteIndexes;
  readonly tokens: TokenVerifier;
  readonly policies: PolicyCache;
  readonly limiter: RateLimiter;
  readonly live: LiveTraffic;
  readonly metrics: WaypointMetrics;
  /** Who is told of the traffic of a connection. */
  readonly telemetry: { of(traffic: ObservedTraffic): Observer };
  readonly logger: Logger;
  readonly gateway: () => Gateway | undefined;
  readonly bindings: Bindings;
  readonly identity: SpiffeIdentity;
  readonly random: () => number;
}

/** A tunnel's client and whom it is for. */
export interface Downstream {
  readonly peer: SpiffeIdentity;
  readonly source: SocketAddress;
  readonly sourceWorkload: Workload | undefined;
  readonly local: SocketAddress;
  /** The authority that was asked for: a virtual address, a pod, or a name. */
  readonly authority: string;
  readonly port: Port;
  readonly gateway: Gateway;
  /** What policies may be attached to for this traffic. */
  readonly targets: readonly PolicyTarget[];
  /** Exactly one of the two. */
  readonly service: Service | undefined;
  readonly workload: Workload | undefined;
}
