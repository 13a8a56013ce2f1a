import type { Socket } from 'node:net';
import type { IpAddress, SocketAddress, SpiffeId, SpiffeIdentity } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';
import type { SessionLimits } from '../http2/index.ts';
import { Http2Error } from '../http2/index.ts';
import type { WorkloadCertificate } from '../tls/index.ts';
import type { ClientSession, Tunnel, TunnelOptions } from './client.ts';
import { connectSession } from './client.ts';
import { defaultLimits } from './limits.ts';

/** A session is shared only by connections that agree in all of this (security: never across identities). */
export interface PoolKey {
  readonly source: SpiffeIdentity;
  readonly sourceIp: IpAddress;
  readonly nextHop: SocketAddress;
  readonly expected: ReadonlySet<SpiffeId>;
}

export interface HbonePoolOptions {
  /** Opens a raw socket for a session, in the source pod's network namespace. */
  readonly dial: (key: PoolKey) => Socket;
  readonly certificate: (identity: SpiffeIdentity) => Promise<WorkloadCertificate>;
  readonly limits?: SessionLimits;
  /** A session without streams is closed after this long. */
  readonly idleReleaseMs?: number;
}

export interface HbonePool {
  connect(
    key: PoolKey,
    tunnel: TunnelOptions,
  ): Promise<Tunnel & { readonly session: ClientSession }>;
  /** Lets matching sessions take no new streams; those that are open go on. */
  retire(which: (key: PoolKey, certificate: WorkloadCertificate) => boolean): void;
  /** Ends matching sessions and all their streams. */
  destroy(which: (key: PoolKey) => boolean): void;
  readonly size: number;
}

const defaultIdleReleaseMs = 5 * 60_000;
/** A stale session can refuse a stream that was never taken; the next one is fresh. */
const maxAttempts = 3;

interface Pooled {
  readonly key: PoolKey;
  readonly certificate: WorkloadCertificate;
  readonly client: ClientSession;
  idleTimer: NodeJS.Timeout | undefined;
}

interface Group {
  readonly sessions: Set<Pooled>;
  connecting: Promise<Pooled> | undefined;
}

export function createHbonePool(options: HbonePoolOptions): HbonePool {
  return new Pool(options);
}

class Pool implements HbonePool {
  readonly #options: HbonePoolOptions;
  readonly #limits: SessionLimits;
  readonly #groups = new Map<string, Group>();

  constructor(options: HbonePoolOptions) {
    this.#options = options;
    this.#limits = options.limits ?? defaultLimits;
  }

  get size(): number {
    let size = 0;
    for (const { sessions } of this.#groups.values()) size += sessions.size;
    return size;
  }

  async connect(
    key: PoolKey,
    tunnel: TunnelOptions,
  ): Promise<Tunnel & { readonly session: ClientSession }> {
    for (let attempt = 1; ; attempt += 1) {
      const pooled = await this.#session(key);
      try {
        const opened = await pooled.client.openTunnel(tunnel);
        return { ...opened, session: pooled.client };
      } catch (error) {
        const again = error instanceof Http2Error && error.retryable && attempt < maxAttempts;
        if (!again) throw error;
      } finally {
        this.#watchIdle(pooled);
      }
    }
  }

  retire(which: (key: PoolKey, certificate: WorkloadCertificate) => boolean): void {
    for (const pooled of this.#all()) {
      if (which(pooled.key, pooled.certificate)) pooled.client.session.drain();
    }
  }

  destroy(which: (key: PoolKey) => boolean): void {
    for (const pooled of this.#all()) if (which(pooled.key)) pooled.client.session.destroy();
  }

  #all(): Pooled[] {
    return [...this.#groups.values()].flatMap(({ sessions }) => [...sessions]);
  }

  async #session(key: PoolKey): Promise<Pooled> {
    const name = nameOf(key);
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = { sessions: new Set(), connecting: undefined };
      this.#groups.set(name, group);
    }
    for (;;) {
      for (const pooled of group.sessions) {
        if (pooled.client.session.open && pooled.client.session.room > 0) return pooled;
      }
      // Connections that come while a session is being made share it, up to its limit of streams.
      group.connecting ??= this.#open(key, name, group);
      const made = await group.connecting;
      if (made.client.session.open && made.client.session.room > 0) return made;
    }
  }

  async #open(key: PoolKey, name: string, group: Group): Promise<Pooled> {
    try {
      const certificate = await this.#options.certificate(key.source);
      const socket = this.#options.dial(key);
      const client = await connectSession({
        socket,
        certificate,
        expected: { kind: 'identities', identities: key.expected },
        limits: this.#limits,
        onClosed: () => this.#closed(name, group, pooled),
      });
      const pooled: Pooled = { key, certificate, client, idleTimer: undefined };
      if (!client.session.closed) group.sessions.add(pooled);
      return pooled;
    } finally {
      group.connecting = undefined;
      if (group.sessions.size === 0 && this.#groups.get(name) === group) this.#groups.delete(name);
    }
  }

  #closed(name: string, group: Group, pooled: Pooled): void {
    clearTimeout(pooled.idleTimer);
    group.sessions.delete(pooled);
    if (group.sessions.size === 0 && group.connecting === undefined) this.#groups.delete(name);
  }

  #watchIdle(pooled: Pooled): void {
    clearTimeout(pooled.idleTimer);
    if (pooled.client.session.closed) return;
    pooled.idleTimer = setTimeout(() => {
      if (pooled.client.session.streams.size === 0) pooled.client.session.drain();
      else this.#watchIdle(pooled);
    }, this.#options.idleReleaseMs ?? defaultIdleReleaseMs);
    pooled.idleTimer.unref();
  }
}

function nameOf({ source, sourceIp, nextHop, expected }: PoolKey): string {
  return [source.uri, sourceIp, formatSocketAddress(nextHop), ...[...expected].sort()].join(' ');
}
