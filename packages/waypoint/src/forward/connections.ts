import { Http1ClientConnection } from '../http1/client.ts';
import { Http2ClientConnection } from '../http2/client.ts';
import type { Http1Limits } from '../http1/limits.ts';
import type { ClientConnection } from '../http/message.ts';
import { HttpError } from '../http/message.ts';
import type {
  Client,
  Configured,
  EndpointHost,
  OpenStream,
  Opened,
  UpstreamProtocol,
} from './endpoint.ts';
import { calledAddress } from './proxy-header.ts';
import { serverNameOf } from './tls-plan.ts';

/** A connection that is wanted for one request. */
export interface ConnectionWanted {
  readonly host: EndpointHost;
  readonly client: Client;
  readonly protocol: UpstreamProtocol;
  /** Of the request as it is sent to the endpoint. */
  readonly authority: string;
}

interface Waiting extends ConnectionWanted {
  readonly key: string;
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
/** Connections that differ in what a request may say are not kept without bound. */
const maxIdleKeys = 512;
const maxKnownKeys = 16;
/** One that tells of a single connection of a client is of no use to others. */
const proxiedIdleMs = 5_000;

function takesNothing(): HttpError {
  return new HttpError('pool/connect-failed', 503, 'the endpoint takes no request', true);
}

/**
 * The connections of one cluster. A connection is only ever used for the client for whom it was opened, because the
 * endpoint is told who that is.
 */
export class ConnectionPool {
  readonly #cluster: Configured;
  readonly #open: OpenStream;
  readonly #limits: Http1Limits;
  readonly #idle = new Map<string, ClientConnection[]>();
  readonly #all = new Map<ClientConnection, string>();
  readonly #keys = new WeakMap<
    EndpointHost,
    { readonly client: string; readonly protocol: UpstreamProtocol; readonly key: string }[]
  >();
  readonly #waiting: Waiting[] = [];
  /** Who rides along on a connection of HTTP/2 that is being made, by key. */
  readonly #riders = new Map<string, Waiting[]>();
  #connecting = 0;
  /** Counts changes after which connections are made otherwise. */
  #epoch = 0;

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
    wanted: ConnectionWanted,
    give: (connection: ClientConnection, reused: boolean) => void,
    fail: (error: HttpError) => void,
  ): Acquired {
    const key = this.#keyOf(wanted);
    const free = this.#takeIdle(key);
    if (free !== undefined) {
      give(free, true);
      return { cancel: () => undefined };
    }
    const waiting: Waiting = { ...wanted, key, give, fail, cancelled: false };
    const { maxConnections = unlimited, maxPendingRequests = unlimited } =
      this.#cluster.settings.pool;
    if (this.#ride(waiting)) {
      // It comes with the connection that is being made.
    } else if (this.connections < maxConnections || this.#evict()) {
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

  /** Every connection ends with its request, those that are being made with their first. */
  close(): void {
    this.#epoch += 1;
    for (const connection of [...this.#all.keys()]) connection.drain();
  }

  destroy(): void {
    this.#epoch += 1;
    for (const connection of [...this.#all.keys()])
      connection.destroy(new Error('the proxy is stopping'));
  }

  /** Requests with one key may share a connection. */
  #keyOf({ host, client, protocol, authority }: ConnectionWanted): string {
    const key = this.#plainKeyOf(host, client.peer.uri, protocol);
    const { tls, proxyProtocol } = this.#cluster.settings;
    if (tls === undefined && proxyProtocol === undefined) return key;
    const named = (tls?.mode === 'simple' || tls?.mode === 'mutual') && tls.sni === undefined;
    const asked = { client, protocol, authority };
    const name = named ? (serverNameOf(asked, this.#cluster) ?? '') : '';
    if (proxyProtocol === undefined) return `${key} ${name}`;
    // The header tells of both addresses.
    return `${key} ${name} ${JSON.stringify([client.source, calledAddress(client)])}`;
  }

  /** Remembered, because to look up a text that was made anew costs as much as the rest of finding a connection. */
  #plainKeyOf(host: EndpointHost, client: string, protocol: UpstreamProtocol): string {
    let known = this.#keys.get(host);
    if (known === undefined) this.#keys.set(host, (known = []));
    const found = known.find((one) => one.client === client && one.protocol === protocol);
    if (found !== undefined) return found.key;
    const key = `${host.id} ${client} ${protocol}`;
    if (known.length >= maxKnownKeys) known.shift();
    known.push({ client, protocol, key });
    return key;
  }

  #ride(waiting: Waiting): boolean {
    const riders = this.#riders.get(waiting.key);
    if (riders === undefined || riders.length >= this.#maxStreams) return false;
    riders.push(waiting);
    return true;
  }

  get #maxStreams(): number {
    const { maxConcurrentStreams, maxRequestsPerConnection = unlimited } =
      this.#cluster.settings.pool;
    return Math.min(maxConcurrentStreams ?? maxStreamsPerConnection, maxRequestsPerConnection);
  }

  #takeIdle(key: string): ClientConnection | undefined {
    const idle = this.#idle.get(key);
    if (idle === undefined) return undefined;
    for (let at = idle.length - 1; at >= 0; at -= 1) {
      const connection = idle[at];
      if (connection === undefined) continue;
      if (connection.free) {
        // One of HTTP/2 takes more than one request at a time: it stays for the next asker.
        if (connection.protocol === 'HTTP/1.1') this.#forget(key, idle, at);
        return connection;
      }
      // One of HTTP/2 that is full has room again later; one of HTTP/1.1 is at its end.
      if (connection.protocol === 'HTTP/1.1' || connection.closed) {
        this.#forget(key, idle, at);
        if (!connection.closed) connection.drain();
      }
    }
    return undefined;
  }

  #forget(key: string, idle: ClientConnection[], at: number): void {
    idle.splice(at, 1);
    if (idle.length === 0) this.#idle.delete(key);
  }

  /** Makes room by ending a connection that nobody uses. */
  #evict(): boolean {
    for (const [key, idle] of this.#idle) {
      const at = idle.findIndex(({ active }) => active === 0);
      const connection = idle[at];
      if (connection === undefined) continue;
      this.#forget(key, idle, at);
      this.#all.delete(connection);
      connection.drain();
      return true;
    }
    return false;
  }

  async #connect(first: Waiting): Promise<void> {
    const { host, client, protocol, authority, key } = first;
    const riders = [first];
    if (protocol === 'HTTP/2') this.#riders.set(key, riders);
    this.#connecting += 1;
    const epoch = this.#epoch;
    let opened: Opened | undefined;
    let failure = '';
    try {
      opened = await this.#open(host, { client, protocol, authority }, this.#cluster);
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    this.#connecting -= 1;
    if (this.#riders.get(key) === riders) this.#riders.delete(key);
    const asking = riders.filter(({ cancelled }) => !cancelled);
    if (opened === undefined) {
      for (const one of asking) one.fail(new HttpError('pool/connect-failed', 503, failure, true));
      this.#serveNext();
      return;
    }
    const connection = this.#made(opened, key, protocol);
    if (asking.length === 0) {
      this.#freed(key, connection);
    } else {
      if (connection.protocol === 'HTTP/2' && !connection.closed) this.#keep(key, connection);
      // One that takes nothing from the start would be made again and again.
      if (!connection.free) asking.shift()?.fail(takesNothing());
      for (const one of asking) this.#giveOrConnect(one, connection);
    }
    // What it was made with does not hold any more.
    if (epoch !== this.#epoch) connection.drain();
  }

  #giveOrConnect(waiting: Waiting, connection: ClientConnection): void {
    // A connection of HTTP/1.1, or one whose peer wants fewer streams than were waiting.
    const { maxConnections = unlimited } = this.#cluster.settings.pool;
    if (connection.free) waiting.give(connection, false);
    else if (this.#ride(waiting)) return;
    else if (this.connections < maxConnections) void this.#connect(waiting);
    else this.#waiting.push(waiting);
  }

  #made({ stream, alpn }: Opened, key: string, protocol: UpstreamProtocol): ClientConnection {
    const { pool, proxyProtocol } = this.#cluster.settings;
    let lifetime: NodeJS.Timeout | undefined;
    const common = {
      idleTimeoutMs:
        proxyProtocol === undefined
          ? pool.idleTimeoutMs
          : Math.min(pool.idleTimeoutMs, proxiedIdleMs),
      maxRequests: pool.maxRequestsPerConnection ?? unlimited,
      onFree: (freed: ClientConnection) => this.#freed(key, freed),
      onClosed: (closed: ClientConnection) => {
        clearTimeout(lifetime);
        this.#closed(key, closed);
      },
    };
    const isHttp2 = protocol === 'HTTP/2' || (protocol === 'alpn' && alpn === 'h2');
    const connection = isHttp2
      ? new Http2ClientConnection(stream, { ...common, maxStreams: this.#maxStreams })
      : new Http1ClientConnection(stream, { ...common, limits: this.#limits });
    // It may have been over with the first bytes of its peer.
    if (!connection.closed) this.#all.set(connection, key);
    const { maxConnectionDurationMs } = pool;
    if (maxConnectionDurationMs !== undefined && !connection.closed) {
      lifetime = setTimeout(() => connection.drain(), maxConnectionDurationMs);
      lifetime.unref();
    }
    return connection;
  }

  #freed(key: string, connection: ClientConnection): void {
    if (connection.free) {
      const at = this.#waiting.findIndex((waiting) => waiting.key === key);
      const [next] = at < 0 ? [] : this.#waiting.splice(at, 1);
      if (next !== undefined) {
        next.give(connection, true);
        return;
      }
      this.#keep(key, connection);
    }
    if (this.#waiting.length > 0 && this.#evict()) this.#serveNext();
  }

  #keep(key: string, connection: ClientConnection): void {
    const idle = this.#idle.get(key);
    if (idle !== undefined) {
      if (!idle.includes(connection)) idle.push(connection);
      return;
    }
    this.#idle.set(key, [connection]);
    if (this.#idle.size > maxIdleKeys) this.#evict();
  }

  #closed(key: string, connection: ClientConnection): void {
    this.#all.delete(connection);
    const idle = this.#idle.get(key);
    const at = idle?.indexOf(connection) ?? -1;
    if (idle !== undefined && at >= 0) this.#forget(key, idle, at);
    this.#serveNext();
  }

  #serveNext(): void {
    const { maxConnections = unlimited } = this.#cluster.settings.pool;
    if (this.connections >= maxConnections) return;
    const next = this.#waiting.shift();
    if (next !== undefined) void this.#connect(next);
  }
}
