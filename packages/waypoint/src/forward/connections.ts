import type { ByteStream } from '@ambit/core';
import { Http1ClientConnection } from '../http1/client.ts';
import { Http2ClientConnection } from '../http2/client.ts';
import type { Http1Limits } from '../http1/limits.ts';
import type { ClientConnection } from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import type { Configured, EndpointHost } from './endpoint.ts';

/** Opens a stream to an endpoint on behalf of a client. */
export type OpenStream = (
  host: EndpointHost,
  client: string,
  cluster: Configured,
) => Promise<ByteStream>;

interface Waiting {
  readonly host: EndpointHost;
  readonly client: string;
  readonly protocol: UpstreamProtocol;
  readonly give: (connection: ClientConnection, reused: boolean) => void;
  readonly fail: (error: HttpError) => void;
  cancelled: boolean;
}

export interface Acquired {
  /** Gives up waiting, or lets the next one have what comes. */
  cancel(): void;
}

const unlimited = Number.POSITIVE_INFINITY;
const maxStreamsPerConnection = 100;

export type UpstreamProtocol = 'HTTP/1.1' | 'HTTP/2';

/**
 * The HTTP/1.1 connections of one cluster. A connection is only ever used for the client for whom it was opened,
 * because the endpoint is told who that is.
 */
export class ConnectionPool {
  readonly #cluster: Configured;
  readonly #open: OpenStream;
  readonly #limits: Http1Limits;
  readonly #idle = new Map<string, ClientConnection[]>();
  readonly #all = new Map<ClientConnection, string>();
  readonly #waiting: Waiting[] = [];
  #connecting = 0;

  constructor(cluster: Configured, open: OpenStream, limits: Http1Limits) {
    this.#cluster = cluster;
    this.#open = open;
    this.#limits = limits;
  }

  get connections(): number {
    return this.#all.size + this.#connecting;
  }

  get pending(): number {
    return this.#waiting.length;
  }

  /** Gives a connection now, or when there is one; fails with code `pool/overflow` where a limit says so. */
  acquire(
    host: EndpointHost,
    client: string,
    protocol: UpstreamProtocol,
    give: (connection: ClientConnection, reused: boolean) => void,
    fail: (error: HttpError) => void,
  ): Acquired {
    const waiting: Waiting = { host, client, protocol, give, fail, cancelled: false };
    const free = this.#takeIdle(keyOf(host, client, protocol));
    if (free !== undefined) {
      give(free, true);
      return { cancel: () => undefined };
    }
    const { maxConnections = unlimited, maxPendingRequests = unlimited } =
      this.#cluster.settings.pool;
    if (this.connections < maxConnections || this.#evict()) {
      void this.#connect(waiting);
    } else if (this.#waiting.length < maxPendingRequests) {
      this.#waiting.push(waiting);
    } else {
      fail(
        new HttpError(
          'pool/overflow',
          503,
          'as many connections and waiting requests as allowed',
          true,
        ),
      );
    }
    return {
      cancel: () => {
        waiting.cancelled = true;
        const at = this.#waiting.indexOf(waiting);
        if (at >= 0) this.#waiting.splice(at, 1);
      },
    };
  }

  /** Ends the idle connections to an endpoint that is gone; others end with their request. */
  retire(hostId: string): void {
    for (const [connection, key] of [...this.#all]) {
      if (key.startsWith(`${hostId} `)) connection.drain();
    }
  }

  close(): void {
    for (const connection of [...this.#all.keys()]) connection.drain();
  }

  destroy(): void {
    for (const connection of [...this.#all.keys()])
      connection.destroy(new Error('the proxy is stopping'));
  }

  #takeIdle(key: string): ClientConnection | undefined {
    const idle = this.#idle.get(key);
    for (;;) {
      const connection = idle?.pop();
      if (idle?.length === 0) this.#idle.delete(key);
      if (connection === undefined) return undefined;
      if (!connection.free) continue;
      // One of HTTP/2 takes more than one request at a time: it stays for the next asker.
      if (connection.protocol === 'HTTP/2') this.#keep(key, connection);
      return connection;
    }
  }

  /** Makes room by ending a connection that nobody uses. */
  #evict(): boolean {
    for (const [key, idle] of this.#idle) {
      const at = idle.findIndex(({ active }) => active === 0);
      const [connection] = at < 0 ? [] : idle.splice(at, 1);
      if (idle.length === 0) this.#idle.delete(key);
      if (connection === undefined) continue;
      this.#all.delete(connection);
      connection.drain();
      return true;
    }
    return false;
  }

  async #connect(waiting: Waiting): Promise<void> {
    const { host, client } = waiting;
    const { pool } = this.#cluster.settings;
    this.#connecting += 1;
    let stream: ByteStream;
    try {
      stream = await this.#open(host, client, this.#cluster);
    } catch (error) {
      this.#connecting -= 1;
      if (!waiting.cancelled) {
        const message = error instanceof Error ? error.message : String(error);
        waiting.fail(new HttpError('pool/connect-failed', 503, message, true));
      }
      this.#serveNext();
      return;
    }
    this.#connecting -= 1;
    const key = keyOf(host, client, waiting.protocol);
    const common = {
      idleTimeoutMs: pool.idleTimeoutMs,
      onFree: (freed: ClientConnection) => this.#freed(key, freed),
      onClosed: (closed: ClientConnection) => this.#closed(key, closed),
    };
    const connection =
      waiting.protocol === 'HTTP/2'
        ? new Http2ClientConnection(stream, { ...common, maxStreams: maxStreamsPerConnection })
        : new Http1ClientConnection(stream, {
            ...common,
            limits: this.#limits,
            maxRequests: pool.maxRequestsPerConnection ?? unlimited,
          });
    this.#all.set(connection, key);
    if (waiting.cancelled) {
      this.#freed(key, connection);
      return;
    }
    if (connection.protocol === 'HTTP/2') this.#keep(key, connection);
    waiting.give(connection, false);
  }

  #freed(key: string, connection: ClientConnection): void {
    const at = this.#waiting.findIndex(
      ({ host, client, protocol }) => keyOf(host, client, protocol) === key,
    );
    const [next] = at < 0 ? [] : this.#waiting.splice(at, 1);
    if (next !== undefined) {
      next.give(connection, true);
      return;
    }
    this.#keep(key, connection);
    if (this.#waiting.length > 0 && this.#evict()) this.#serveNext();
  }

  #keep(key: string, connection: ClientConnection): void {
    const idle = this.#idle.get(key);
    if (idle === undefined) this.#idle.set(key, [connection]);
    else if (!idle.includes(connection)) idle.push(connection);
  }

  #closed(key: string, connection: ClientConnection): void {
    this.#all.delete(connection);
    const idle = this.#idle.get(key);
    const at = idle?.indexOf(connection) ?? -1;
    if (at >= 0) idle?.splice(at, 1);
    if (idle?.length === 0) this.#idle.delete(key);
    this.#serveNext();
  }

  #serveNext(): void {
    const { maxConnections = unlimited } = this.#cluster.settings.pool;
    if (this.connections >= maxConnections) return;
    const next = this.#waiting.shift();
    if (next !== undefined) void this.#connect(next);
  }
}

function keyOf(host: EndpointHost, client: string, protocol: UpstreamProtocol): string {
  return `${host.id} ${client} ${protocol}`;
}
