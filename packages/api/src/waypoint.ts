import type { IpAddress, Port } from './address.ts';
import type { ServiceKey } from './hostname.ts';

/** Where a waypoint is reached: an address or the service in front of it, and its HBONE port. */
export type WaypointRef =
  | { readonly kind: 'address'; readonly ip: IpAddress; readonly port: Port }
  | { readonly kind: 'service'; readonly service: ServiceKey; readonly port: Port };
