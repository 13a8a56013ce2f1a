import { isDeepStrictEqual } from 'node:util';
import type { Service, TrafficSettings, Workload } from '@ambit/api';
import type { ChoiceContext } from './balance/host.ts';
import { Groups } from './balance/groups.ts';
import type { Placement } from './balance/locality.ts';
import { place } from './balance/locality.ts';
import type { ConnectionPool } from './connections.ts';
import type { EndpointHost, ListedEndpoint } from './endpoint.ts';
import type { ClusterKey } from './listing.ts';
import type { ClusterObserver } from './observer.ts';
import type { Report } from './outlier.ts';
import { OutlierDetector } from './outlier.ts';
import type { DeclaredHttp } from './protocol-choice.ts';

export interface PickContext extends ChoiceContext {
  /** A repeat that is to leave the localities in which the request has been. */
  readonly elsewhere?: boolean;
}

/** What active checks say of a cluster's endpoints. */
export interface HealthView {
  isUnhealthy(hostId: string): boolean;
  /** The cluster is in use, so that its endpoints are worth checking. */
  used(nowMs: number): void;
}

export interface ClusterParts {
  readonly name: string;
  readonly settings: TrafficSettings;
  readonly distribution: Service['loadBalancing'];
  readonly list: () => readonly ListedEndpoint[];
  /** The waypoint's own workload, whose locality is where traffic starts. */
  readonly own: () => Workload | undefined;
  readonly pool: (cluster: UpstreamCluster) => ConnectionPool;
  readonly observer: ClusterObserver;
}

/** The endpoints of one service and port (and subset), with everything that is remembered of them. */
export class UpstreamCluster {
  readonly name: string;
  readonly pool: ConnectionPool;
  readonly observer: ClusterObserver;
  settings: TrafficSettings;
  distribution: Service['loadBalancing'];
  /** Absent for a single pod. */
  key: ClusterKey | undefined;
  /** What the port says of itself. */
  declared: DeclaredHttp;
  /** Tries under way, repeats among them. */
  requests = 0;
  /** Requests under way that are being repeated. */
  retries = 0;
  readonly #parts: ClusterParts;
  readonly #turn = { next: 0 };
  readonly #known = new Map<string, EndpointHost>();
  #outlier: OutlierDetector | undefined;
  #health: HealthView | undefined;
  #all: readonly EndpointHost[] = [];
  #groups: Groups<EndpointHost> | undefined;
  /** When what has been worked out is out of date by the clock alone. */
  #validUntilMs = Number.POSITIVE_INFINITY;
  #own: Workload | undefined;
  #listed = false;
  #stale = true;

  constructor(parts: ClusterParts) {
    this.name = parts.name;
    this.settings = parts.settings;
    this.distribution = parts.distribution;
    this.observer = parts.observer;
    this.#parts = parts;
    this.#outlier = parts.settings.outlier && new OutlierDetector(parts.settings.outlier);
    this.pool = parts.pool(this);
  }

  /** Endpoints may be others now. */
  invalidate(): void {
    this.#stale = true;
  }

  /** Endpoints are the same, but what is thought of them is not. */
  reconsider(): void {
    this.#groups = undefined;
  }

  reconfigure(settings: TrafficSettings, distribution: Service['loadBalancing']): void {
    const before = this.settings;
    if (before === settings && this.distribution === distribution) return;
    this.settings = settings;
    this.distribution = distribution;
    this.#groups = undefined;
    if (!isDeepStrictEqual(before.outlier, settings.outlier)) {
      this.#outlier = settings.outlier && new OutlierDetector(settings.outlier);
    }
    // No request goes out on a connection that is no longer as it is to be.
    const same =
      isDeepStrictEqual(before.tls, settings.tls) &&
      before.proxyProtocol === settings.proxyProtocol;
    if (!same) this.pool.close();
  }

  /** What active checks say from now on. */
  set health(health: HealthView | undefined) {
    if (this.#health === health) return;
    this.#health = health;
    this.#groups = undefined;
  }

  get hosts(): readonly EndpointHost[] {
    return this.#stale ? this.#relist() : this.#all;
  }

  pick(context: PickContext): EndpointHost | undefined {
    this.#health?.used(context.nowMs);
    if (this.#stale) this.#relist();
    let groups = this.#groups;
    if (groups === undefined || context.nowMs >= this.#validUntilMs) {
      groups = this.#regroup(context.nowMs);
      this.#groups = groups;
    }
    return groups.pick(context, context.elsewhere === true);
  }

  /** Tells what a try says of its endpoint. */
  report(host: EndpointHost, report: Report, nowMs: number): void {
    const outlier = this.#outlier;
    if (outlier === undefined) return;
    const ejection = outlier.report(host.id, report, nowMs, this.#all.length);
    if (ejection === undefined) return;
    this.#groups = undefined;
    this.observer.ejected(this.name, host, ejection);
  }

  get detectsOutliers(): boolean {
    return this.#outlier !== undefined;
  }

  get ejected(): number {
    return this.#outlier?.ejected ?? 0;
  }

  stateOf(host: EndpointHost): 'healthy' | 'ejected' | 'unhealthy' {
    if (this.#health?.isUnhealthy(host.id) === true) return 'unhealthy';
    return this.#outlier?.isEjected(host.id) === true ? 'ejected' : 'healthy';
  }

  close(): void {
    this.pool.close();
    this.observer.removed(this.name);
  }

  #relist(): readonly EndpointHost[] {
    this.#stale = false;
    const next = this.#parts.list();
    const own = this.#parts.own();
    if (own === this.#own && this.#isSame(next)) return this.#all;
    this.#own = own;
    this.#groups = undefined;
    const ids = new Set(next.map(({ id }) => id));
    for (const id of this.#known.keys()) {
      if (ids.has(id)) continue;
      this.#known.delete(id);
      this.pool.retire(id);
    }
    // Those of the first list were there before us and are warm.
    const warmSinceMs = this.#listed ? performance.now() : undefined;
    this.#listed = true;
    this.#all = next.map((listed) => {
      const { weight = 1 } = listed;
      const known = this.#known.get(listed.id);
      // The object stays, because what is in flight is counted on it.
      const host =
        known === undefined
          ? { ...listed, weight, active: 0, warmSinceMs }
          : Object.assign(known, listed, { weight });
      this.#known.set(host.id, host);
      return host;
    });
    this.#outlier?.keep(ids);
    return this.#all;
  }

  /** Most changes of the mesh are none of ours; tables are made anew only for those that are. */
  #isSame(next: readonly ListedEndpoint[]): boolean {
    return (
      this.#listed &&
      next.length === this.#all.length &&
      next.every(({ id, workload, weight = 1 }, index) => {
        const host = this.#all[index];
        return host?.id === id && host.workload === workload && host.weight === weight;
      })
    );
  }

  #regroup(nowMs: number): Groups<EndpointHost> {
    const hosts = this.hosts;
    for (const id of this.#outlier?.release(nowMs) ?? []) {
      const host = this.#known.get(id);
      if (host !== undefined) this.observer.returned(this.name, host);
    }
    this.#validUntilMs = this.#outlier?.nextReturnMs ?? Number.POSITIVE_INFINITY;
    const { balancing, warmup, outlier } = this.settings;
    const counts = { healthy: 0, ejected: 0, unhealthy: 0 };
    for (const host of hosts) counts[this.stateOf(host)] += 1;
    this.observer.counted(this.name, counts);
    return new Groups(this.#place(hosts), {
      balancing,
      warmup,
      turn: this.#turn,
      isOut: (host) => this.stateOf(host) !== 'healthy',
      minHealthPercent: outlier?.minHealthPercent ?? 0,
    });
  }

  #place(hosts: readonly EndpointHost[]): Placement<EndpointHost> {
    const own = this.#own;
    if (own === undefined) return { kind: 'together', hosts };
    return place(hosts, {
      own,
      settings: this.settings.locality,
      distribution: this.distribution,
      failover: this.#outlier !== undefined || this.#health !== undefined,
    });
  }
}
