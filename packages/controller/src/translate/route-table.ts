import type { RouteTable, Service } from '@ambit/api';
import { serviceKey } from '@ambit/api';

import type { AttachedRoute } from './gateway-merge.ts';
import { mergeGatewayRoutes } from './gateway-merge.ts';
import { itself } from './virtual-service-merge.ts';

/**
 * The table of one service. Where both APIs speak of it, the Gateway API is heard; routes of consumers alone are heard
 * by their own clients only, so that nobody else loses what the VirtualServices say.
 */
export function routeTableOf(
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

/** Holds for every client, not for those of another namespace alone. */
export function isOwn({ parent }: AttachedRoute): boolean {
  return parent.consumerNamespace === undefined;
}
