import type { Service, SocketAddress, Workload } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';
import type { Copy, Logger } from '@ambit/core';
import type { InboundFacts } from './inbound/plan.ts';
import type { ResponseFlags, TcpFacts, ZtunnelMetrics } from './metrics.ts';
import { tcpLabelsOf } from './metrics.ts';

/** A connection as the log and the metrics tell it. */
export interface ConnectionRecord {
  readonly direction: 'inbound' | 'outbound';
  readonly podUid: string;
  readonly source: SocketAddress | undefined;
  readonly sourceWorkload: Workload | undefined;
  readonly sourceIdentity: string | undefined;
  readonly destination: SocketAddress;
  readonly hboneAddress: string | undefined;
  readonly destinationWorkload: Workload | undefined;
  readonly destinationIdentity: string | undefined;
  readonly service: Service | undefined;
  readonly mutualTls: boolean;
}

export interface OpenConnection {
  readonly record: ConnectionRecord;
  /** Facts to judge again when policies change; only of inbound connections. */
  readonly facts: InboundFacts | undefined;
  readonly copy: Copy;
  readonly openedAtMs: number;
}

/** The connections that are open now, told to log and metrics when they open and close. */
export class Connections {
  readonly #open = new Set<OpenConnection>();
  readonly #perPod = new Map<string, number>();
  readonly #waiting = new Set<() => void>();
  readonly #metrics: ZtunnelMetrics;
  readonly #access: Logger;

  constructor(metrics: ZtunnelMetrics, access: Logger) {
    this.#metrics = metrics;
    this.#access = access;
  }

  get size(): number {
    return this.#open.size;
  }

  list(): Iterable<OpenConnection> {
    return this.#open;
  }

  countOf(podUid: string): number {
    return this.#perPod.get(podUid) ?? 0;
  }

  /** Follows a connection from now until its copy is done. */
  track(record: ConnectionRecord, copy: Copy, facts?: InboundFacts): OpenConnection {
    const connection: OpenConnection = { record, facts, copy, openedAtMs: performance.now() };
    const labels = tcpLabelsOf(tcpFacts(record, '-'));
    this.#open.add(connection);
    this.#perPod.set(record.podUid, this.countOf(record.podUid) + 1);
    this.#metrics.opened.inc(labels);
    void copy.done.then((outcome) => {
      this.#open.delete(connection);
      this.#release(record.podUid);
      this.#metrics.closed.inc(labels);
      this.#metrics.received.inc(labels, outcome.sent);
      this.#metrics.sent.inc(labels, outcome.received);
      const fields = {
        ...accessFields(record),
        bytes_sent: outcome.received,
        bytes_recv: outcome.sent,
        duration: `${(performance.now() - connection.openedAtMs).toFixed(0)}ms`,
      };
      if (outcome.broken === undefined) this.#access.info(fields, 'connection complete');
      else
        this.#access.error(
          { ...fields, error: outcome.broken.error.message },
          'connection complete',
        );
      if (this.#open.size === 0) for (const wake of this.#waiting) wake();
    });
    return connection;
  }

  /** Tells a connection that was refused or could not be made. */
  failed(record: ConnectionRecord, flags: ResponseFlags, error: string): void {
    this.#metrics.failed.inc(tcpLabelsOf(tcpFacts(record, flags)));
    const fields = {
      ...accessFields(record),
      bytes_sent: 0,
      bytes_recv: 0,
      duration: '0ms',
      error,
    };
    if (flags === 'DENY') this.#access.warn(fields, 'connection denied');
    else this.#access.error(fields, 'connection failed');
  }

  abort(which: (connection: OpenConnection) => boolean, reason: Error): void {
    for (const connection of [...this.#open]) if (which(connection)) connection.copy.abort(reason);
  }

  /** Resolves when no connection is open. */
  async idle(): Promise<void> {
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  #release(podUid: string): void {
    const left = this.countOf(podUid) - 1;
    if (left > 0) this.#perPod.set(podUid, left);
    else this.#perPod.delete(podUid);
  }
}

function tcpFacts(record: ConnectionRecord, flags: ResponseFlags): TcpFacts {
  return {
    reporter: record.direction === 'outbound' ? 'source' : 'destination',
    source: record.sourceWorkload,
    sourcePrincipal: record.sourceIdentity,
    destination: record.destinationWorkload,
    destinationPrincipal: record.destinationIdentity,
    service: record.service,
    mutualTls: record.mutualTls,
    flags,
  };
}

/** Keys and order of Istio's ztunnel (contracts.md §8); absent ones are left out. */
function accessFields(record: ConnectionRecord): Record<string, string> {
  const { sourceWorkload, destinationWorkload } = record;
  const all = {
    'src.addr': record.source && formatSocketAddress(record.source),
    'src.workload': sourceWorkload?.name,
    'src.namespace': sourceWorkload?.namespace,
    'src.identity': record.sourceIdentity,
    'src.cluster': sourceWorkload?.clusterId,
    'dst.addr': formatSocketAddress(record.destination),
    'dst.hbone_addr': record.hboneAddress,
    'dst.service': record.service?.hostname,
    'dst.workload': destinationWorkload?.name,
    'dst.namespace': destinationWorkload?.namespace,
    'dst.identity': record.destinationIdentity,
    'dst.cluster': destinationWorkload?.clusterId,
    direction: record.direction,
  };
  return Object.fromEntries(
    Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
