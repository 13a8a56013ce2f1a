import type { RouteTable, Service } from '@ambit/api';
import { serviceKey } from '@ambit/api';

import type { AttachedRoute } from './gateway-merge.ts';
import { mergeGatewayRoutes } from './gateway-merge.ts';
import { itself } from './virtual-service-merge.ts';

/**
 * The table of one service. Where both APIs speak of it, the Gateway API is heard; routes of consumers alone are heard
 * by their own clients only, so that nobody else loses what the VirtualServices say. Routes of the waypoint's Gateway
 * hold where neither speaks of the service to all.
 */
export function routeTableOf(
  service: Service,
  attached: readonly AttachedRoute[],
  virtual: RouteTable | undefined,
): RouteTable | undefined {
  const general = attached.filter(({ parent }) => parent.byWaypoint === true);
  const named = attached.filter(({ parent }) => parent.byWaypoint !== true);
  const table = namedTable(service, named, virtual);
  if (general.length === 0 || virtual !== undefined || named.some(isOwn)) return table;
  const key = serviceKey(service.namespace, service.hostname);
  // What no rule matches goes to the service: a waypoint's Gateway is no host that could be without it.
  const rest = service.ports.map(({ port }) => itself(key, port));
  const consumers = mergeGatewayRoutes(named);
  const http = [...consumers.http, ...mergeGatewayRoutes(general).http, ...rest];
  return { tls: [], tcp: [], ...table, service: key, http };
}

function namedTable(
  service: Service,
  attached: readonly AttachedRoute[],
  virtual: RouteTable | undefined,
): RouteTable | undefined {
  if (attached.length === 0) return virtual;
  const key = serviceKey(service.namespace, service.hostname);
  if (virtual === undefined || attached.some(isOwn)) {
    return { service: key, ...mergeGatewayRoutes(attached, service) };
  }
  const consumers = mergeGatewayRoutes(attached);
  const http =
    virtual.http.length > 0 || consumers.http.length === 0
      ? virtual.http
      : service.ports.map(({ port }) => itself(key, port));
  return {
    service: key,
    http: [...consumers.http, ...http],
    tls: [...consumers.tls, ...virtual.tls],
    tcp: [...consumers.tcp, ...virtual.tcp],
  };
}

/** Names the service, and holds for every client, not for those of another namespace alone. */
export function isOwn({ parent }: AttachedRoute): boolean {
  return parent.consumerNamespace === undefined && parent.byWaypoint !== true;
}
