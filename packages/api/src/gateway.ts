import type { SpiffeId } from './identity.ts';
import type { ServiceKey } from './hostname.ts';

/** What traffic a waypoint is for (`istio.io/waypoint-for`). */
export type WaypointFor = 'service' | 'workload' | 'all' | 'none';

/** A Gateway of our classes that a proxy stands for. Its name in a snapshot is `<namespace>/<name>`. */
export interface Gateway {
  readonly name: string;
  readonly namespace: string;
  readonly className: string;
  readonly waypointFor: WaypointFor;
  /** Who its proxies are. */
  readonly identity: SpiffeId;
  readonly service: ServiceKey;
  /** `ambient.istio.io/xfcc-include-client-identity`. */
  readonly xfccClientIdentity: boolean;
  /**
   * Proxies in the mesh whose word on the original client (`x-forwarded-*`) is taken, by their identities
   * (`ambit.dev/trusted-forwarders`). Nobody else's is.
   */
  readonly trustedForwarders: readonly SpiffeId[];
}
