import type { Port, Service, ServiceKey, Workload } from '@ambit/api';
import { meshPorts, serviceKey } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { parseAuthority } from '@ambit/core';

/** Whom a tunnel to this waypoint is for. */
export type InboundPlan =
  | { readonly kind: 'service'; readonly service: Service; readonly port: Port }
  | { readonly kind: 'workload'; readonly workload: Workload; readonly port: Port }
  | { readonly kind: 'deny'; readonly status: 400 | 404 | 503; readonly message: string };

/**
 * Judges a CONNECT of a client of namespace `client`: only what is bound to this very waypoint is served, and only on a
 * port that it has.
 */
export function planInbound(
  state: MeshState,
  serves: (what: Service | Workload) => boolean,
  text: string,
  client: string,
): InboundPlan {
  const authority = parseAuthority(text);
  if (!authority.ok) return deny(400, authority.error.message);
  const to = authority.value;
  if (meshPorts.has(to.port)) return deny(400, `port ${to.port} belongs to the mesh`);
  const service =
    to.kind === 'address'
      ? state.serviceByVip(to.ip, client)
      : state.serviceByHostname(to.hostname, client);
  if (service !== undefined) return planService(service, serves(service), to.port);
  const workload = to.kind === 'address' ? state.workloadByAddress(to.ip) : undefined;
  if (workload === undefined) return deny(404, `${text} is nothing that this waypoint serves`);
  if (!serves(workload)) {
    return deny(404, `workload ${workload.uid} is not bound to this waypoint`);
  }
  return { kind: 'workload', workload, port: to.port };
}

function planService(service: Service, isServed: boolean, port: Port): InboundPlan {
  if (!isServed) {
    return deny(404, `service ${service.hostname} is not bound to this waypoint`);
  }
  if (!service.ports.some((one) => one.port === port)) {
    return deny(404, `service ${service.hostname} has no port ${port}`);
  }
  return { kind: 'service', service, port };
}

function deny(status: 400 | 404 | 503, message: string): InboundPlan {
  return { kind: 'deny', status, message };
}

const keys = new WeakMap<Service, ServiceKey>();

export function keyOf(service: Service): ServiceKey {
  let key = keys.get(service);
  if (key === undefined) keys.set(service, (key = serviceKey(service.namespace, service.hostname)));
  return key;
}
