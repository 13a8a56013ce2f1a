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

/** How the endpoints of a ServiceEntry's host are found. `none`: whoever the client asked for. */
export type Resolution = 'none' | 'static' | 'dns' | 'dns-round-robin';

/** What a host of a ServiceEntry has beside what every service has. */
export interface ServiceEntryFacts {
  /** Name of the ServiceEntry; its namespace is the service's. */
  readonly name: string;
  readonly location: 'external' | 'internal';
  readonly resolution: Resolution;
  /** Names of which the endpoints' certificates must bear one; any where there are none. */
  readonly subjectAltNames: readonly string[];
}

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
  readonly entry?: ServiceEntryFacts;
  /** The namespaces whose clients it is for; everybody's when absent. */
  readonly visibleTo?: readonly string[];
}
