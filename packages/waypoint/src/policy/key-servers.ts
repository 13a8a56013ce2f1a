import type { Duplex } from 'node:stream';
import type { Hostname, IpAddress, Service, SpiffeIdentity } from '@ambit/api';
import { parsePort } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { MeshError, duplexOf } from '@ambit/core';
import type { Clusters } from '../forward/clusters.ts';
import type { OpenStream } from '../forward/endpoint.ts';
import { ownCall } from '../forward/own-call.ts';
import { keyOf } from '../inbound/plan.ts';
import type { GuardOptions } from './guarded-fetch.ts';

export interface KeyServersOptions {
  readonly state: MeshState;
  readonly clusters: Pick<Clusters, 'find'>;
  readonly open: OpenStream;
  /** The waypoint itself: it asks for its own sake. */
  readonly identity: SpiffeIdentity;
  readonly random: () => number;
}

/** How key servers are reached: one in the mesh as every service is, with the waypoint's identity, and by its name. */
export function keyServers(options: KeyServersOptions): GuardOptions {
  const { state } = options;
  return {
    isOfMesh: (ip: IpAddress) =>
      state.workloadByAddress(ip) !== undefined || state.serviceByVip(ip) !== undefined,
    openService: (hostname, port) => {
      const service = serviceNamed(state, hostname.toLowerCase());
      return service === undefined ? undefined : openTo(options, service, port);
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

async function openTo(
  { clusters, open, identity, random }: KeyServersOptions,
  service: Service,
  number: number,
): Promise<Duplex> {
  const port = parsePort(number);
  const cluster = port.ok
    ? clusters.find({ service: keyOf(service), port: port.value })
    : undefined;
  if (cluster === undefined) {
    throw new MeshError('keys/no-port', `service ${service.hostname} has no port ${number}`);
  }
  const nowMs = performance.now();
  const host = cluster.pick({ random, nowMs, hash: undefined, exclude: new Set() });
  if (host === undefined) {
    throw new MeshError('keys/no-endpoint', `service ${service.hostname} has no healthy endpoint`);
  }
  const { stream } = await open(host, ownCall(identity, cluster, service.hostname), cluster);
  return duplexOf(stream);
}
