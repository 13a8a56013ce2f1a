import type { IpAddress, IpFamily, Port } from './address.ts';
import type { Hostname } from './hostname.ts';
import type { WaypointRef } from './waypoint.ts';

export interface ServicePort {
  readonly name: string;
  readonly port: Port;
  readonly appProtocol: string;
}

/** What an endpoint must share with the client to be preferred, most important first. */
export type LocalityScope = 'network' | 'region' | 'zone' | 'subzone' | 'node' | 'cluster';

/**
 * `failover` prefers endpoints that share most of `scopes`, in order, and falls back to the others;
 * `strict` uses only those that share all of them.
 */
export type LoadBalancing =
  | { readonly mode: 'any' }
  | { readonly mode: 'failover' | 'strict'; readonly scopes: readonly LocalityScope[] };

/** A virtual destination. Its endpoints are the workloads that name it in `services`. */
export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: Hostname;
  /** Virtual addresses; empty for a headless service. */
  readonly vips: readonly IpAddress[];
  readonly ipFamilies: readonly IpFamily[];
  readonly ports: readonly ServicePort[];
  readonly loadBalancing: LoadBalancing;
  /** True when not-ready endpoints are to be used too (publishNotReadyAddresses). */
  readonly publishNotReady: boolean;
  readonly waypoint?: WaypointRef;
  /** Go past a waypoint that is missing or not ready, because the owner said so by annotation. */
  readonly withoutWaypoint: 'refuse' | 'direct';
}
