import { isDeepStrictEqual } from 'node:util';

import type { CompiledWaypoint } from '../translate/waypoint.ts';
import type { Collection } from './collection.ts';
import type { Graph, Noted } from './derived.ts';
import type { GatewayRoute, GatewayRoutes } from './gateway-routes.ts';
import { gatewaysNamedBy } from './gateway-routes.ts';
import { only } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly noted: Noted;
  readonly waypoints: Collection<CompiledWaypoint>;
}

/** How many routes are attached to each listener of a waypoint, by its name. */
export type AttachedRoutes = ReadonlyMap<string, number>;

export function attachedRouteStage(
  { graph, noted, waypoints }: Parts,
  routes: GatewayRoutes,
): Collection<AttachedRoutes> {
  return noted(
    'attached-routes',
    graph.derive<CompiledWaypoint, AttachedRoutes>({
      name: 'attached-routes',
      primary: waypoints,
      derive: ({ listeners }, key, read) => {
        const attached = Object.values(routes).flatMap((kind) => read.find(kind, 'gateway', key));
        const counts = listeners.map((name): [string, number] => [
          name,
          attached.filter((route) => names(route, key, name)).length,
        ]);
        return only(key, new Map(counts));
      },
      equal: isDeepStrictEqual,
    }),
  );
}

/** One that names no listener is attached to all of them. */
function names(route: GatewayRoute, gateway: string, listener: string): boolean {
  return gatewaysNamedBy(route).some(
    (one) => one.key === gateway && (one.listener ?? listener) === listener,
  );
}
