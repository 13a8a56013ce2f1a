import type { SocketAddress, TrafficSettings, Workload } from '@ambit/api';
import type { Host } from './pick.ts';

/** One endpoint of a cluster. */
export interface EndpointHost extends Host {
  readonly workload: Workload;
  readonly address: SocketAddress;
}

/** What connections take from the cluster they are of. */
export interface Configured {
  readonly settings: TrafficSettings;
}
