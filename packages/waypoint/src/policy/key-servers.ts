import type { Hostname, IpAddress, Service } from '@ambit/api';
import { parsePort } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { MeshError } from '@ambit/core';
import type { Reach } from '../client/reach.ts';
import type { GuardOptions } from './guarded-fetch.ts';

/** How key servers are reached: one in the mesh as every service is, with the waypoint's identity, and by its name. */
export function keyServers(state: MeshState, reach: Reach): GuardOptions {
  return {
    isOfMesh: (ip: IpAddress) =>
      state.workloadByAddress(ip) !== undefined || state.serviceByVip(ip) !== undefined,
    openService: (hostname, number) => {
      const service = serviceNamed(state, hostname.toLowerCase());
      if (service === undefined) return undefined;
      const port = parsePort(number);
      if (!port.ok) throw new MeshError('client/no-port', port.error.message);
      const { namespace } = service;
      return reach({ host: service.hostname, port: port.value, namespace }).connect();
    },
  };
}

/** By its whole name, or as far as `name.namespace` of it. */
function serviceNamed(state: MeshState, hostname: string): Service | undefined {
  const found = state.serviceByHostname(hostname as Hostname);
  if (found !== undefined) return found;
  const [name = '', namespace = '', ...rest] = hostname.split('.');
  if (rest.length > 1 || (rest.length === 1 && rest[0] !== 'svc')) return undefined;
  for (const service of state.services()) {
    if (service.hostname.startsWith(`${name}.${namespace}.svc.`)) return service;
  }
  return undefined;
}
