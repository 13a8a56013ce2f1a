import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ProviderAddress, SpiffeIdentity } from '@ambit/api';
import { serviceKey } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { MeshError, duplexOf } from '@ambit/core';
import type { Clusters } from '../forward/clusters.ts';
import type { EndpointHost, OpenStream } from '../forward/endpoint.ts';
import { ownCall } from '../forward/own-call.ts';

export interface ReachOptions {
  readonly state: MeshState;
  readonly clusters: Clusters;
  readonly open: OpenStream;
  /** The proxy's own, under which it asks. */
  readonly identity: SpiffeIdentity;
  readonly random: () => number;
}

/** One place that answers for an address. */
export interface Place {
  /** Tells it from the other places of the same address. */
  readonly id: string;
  connect(): Promise<Duplex>;
}

/**
 * Finds a place for an address, anew for each connection; throws a MeshError where there is none. `check` sees the
 * endpoint of a service that was chosen, and throws where it may not be asked.
 */
export type Reach = (address: ProviderAddress, check?: (endpoint: EndpointHost) => void) => Place;

const nothing: ReadonlySet<string> = new Set();
const outsideTimeoutMs = 10_000;

/** A service of the mesh is reached as traffic reaches it, with mutual TLS where it can be; another name by DNS. */
export function createReach({ state, clusters, open, identity, random }: ReachOptions): Reach {
  const serviceAt = ({ host, namespace }: ProviderAddress) =>
    namespace === undefined
      ? state.serviceByHostname(host)
      : state.service(serviceKey(namespace, host));
  return (address, check) => {
    const service = serviceAt(address);
    if (service === undefined) return outside(address);
    const { host, port } = address;
    const cluster = clusters.of(service, port);
    if (cluster === undefined) {
      throw new MeshError('client/no-port', `service ${host} has no port ${port}`);
    }
    const endpoint = cluster.pick({
      random,
      nowMs: performance.now(),
      hash: undefined,
      exclude: nothing,
    });
    if (endpoint === undefined) {
      throw new MeshError('client/no-endpoint', `service ${host} has no ready endpoint`);
    }
    check?.(endpoint);
    const asked = ownCall(identity, cluster, host);
    return {
      id: endpoint.id,
      connect: async () => duplexOf((await open(endpoint, asked, cluster)).stream),
    };
  };
}

function outside({ host, port }: ProviderAddress): Place {
  return {
    id: `${host}:${port}`,
    connect: () =>
      new Promise((resolve, reject) => {
        const socket = connect({ host, port, noDelay: true, autoSelectFamily: true });
        const timer = setTimeout(() => {
          socket.destroy(
            new MeshError(
              'client/timeout',
              `no connection to ${host}:${port} in ${outsideTimeoutMs} ms`,
            ),
          );
        }, outsideTimeoutMs);
        const settle = (then: () => void): void => {
          clearTimeout(timer);
          socket.off('error', failed);
          then();
        };
        const failed = (error: Error): void => settle(() => reject(error));
        socket.once('error', failed);
        socket.once('connect', () => settle(() => resolve(socket)));
      }),
  };
}

export function formatAddress({ namespace, host, port }: ProviderAddress): string {
  return `${namespace === undefined ? '' : `${namespace}/`}${host}:${port}`;
}
