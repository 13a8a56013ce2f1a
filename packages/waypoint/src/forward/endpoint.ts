import type {
  Port,
  ServiceKey,
  SocketAddress,
  SpiffeIdentity,
  TrafficSettings,
  Workload,
} from '@ambit/api';
import type { ByteStream } from '@ambit/core';
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
  /** Absent for a single pod. */
  readonly key?:
    { readonly service: ServiceKey; readonly port: Port; readonly subset?: string } | undefined;
}

/** For whom a connection to an endpoint is made; a `Downstream` is one, and so is the proxy itself, without addresses. */
export interface Client {
  readonly peer: Pick<SpiffeIdentity, 'uri'>;
  readonly source: SocketAddress | undefined;
  readonly local: SocketAddress | undefined;
  /** The authority of the client's tunnel. */
  readonly authority: string;
}

/** What is spoken on a connection; `alpn`: HTTP, of which TLS agrees on the version. */
export type UpstreamProtocol = 'HTTP/1.1' | 'HTTP/2' | 'alpn';

/** What a connection to an endpoint is wanted for. */
export interface Asked {
  readonly client: Client;
  readonly protocol: UpstreamProtocol | 'tcp';
  /** The host that the request names; absent where only bytes are known. */
  readonly authority?: string;
}

export interface Opened {
  readonly stream: ByteStream;
  /** What TLS agreed on, where there is TLS to the endpoint itself. */
  readonly alpn: string | undefined;
}

/** Opens a stream to an endpoint on behalf of a client. */
export type OpenStream = (host: EndpointHost, asked: Asked, cluster: Configured) => Promise<Opened>;
