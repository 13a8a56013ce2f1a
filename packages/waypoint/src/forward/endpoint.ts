import type { SocketAddress, TrafficSettings, Workload } from '@ambit/api';
import type { Host } from './balance/host.ts';

/** One endpoint of a cluster. */
export interface EndpointHost extends Host {
  readonly workload: Workload;
  readonly address: SocketAddress;
}

/** An endpoint as it is listed, before anything is remembered of it. */
export type ListedEndpoint = Omit<EndpointHost, 'active' | 'warmSinceMs' | 'weight'> & {
  readonly weight?: number;
};

/** What connections take from the cluster they are of. */
export interface Configured {
  readonly settings: TrafficSettings;
}
