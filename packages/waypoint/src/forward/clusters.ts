import type { Port, ServiceKey, TrafficPolicy, TrafficSettings, Workload } from '@ambit/api';
import { defaultTraffic } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { declaredProtocol } from '../inbound/protocol.ts';
import type { ConnectionPool } from './connections.ts';
import type { Report } from './outlier.ts';
import { OutlierDetector } from './outlier.ts';
import type { EndpointHost } from './endpoint.ts';
import { Picker } from './pick.ts';

export interface ClusterKey {
  readonly service: ServiceKey;
  readonly port: Port;
  readonly subset?: string;
}

export interface PickContext {
  readonly random: () => number;
  readonly nowMs: number;
  readonly hash: number | undefined;
  readonly exclude: ReadonlySet<string>;
}

export interface ClusterDeps {
  readonly state: MeshState;
  /** The waypoint's own workload, whose locality is where traffic starts. */
  readonly own: () => Workload | undefined;
  readonly pool: (cluster: UpstreamCluster) => ConnectionPool;
}

/** The endpoints of one service and port (and subset), with everything that is remembered of them. */
export class UpstreamCluster {
  readonly name: string;
  readonly pool: ConnectionPool;
  settings: TrafficSettings;
  /** The port is declared to speak HTTP/2. */
  http2 = false;
  /** Requests and repeats under way. */
  requests = 0;
  retries = 0;
  readonly #deps: ClusterDeps;
  readonly #list: () => readonly Omit<EndpointHost, 'active'>[];
  readonly #picker = new Picker();
  readonly #hosts = new Map<string, EndpointHost>();
  #outlier: OutlierDetector | undefined;
  #all: readonly EndpointHost[] = [];
  #stale = true;

  constructor(
    name: string,
    settings: TrafficSettings,
    list: () => readonly Omit<EndpointHost, 'active'>[],
    deps: ClusterDeps,
  ) {
    this.name = name;
    this.settings = settings;
    this.#list = list;
    this.#deps = deps;
    this.#outlier = settings.outlier && new OutlierDetector(settings.outlier);
    this.pool = deps.pool(this);
  }

  /** Endpoints may be others now. */
  invalidate(): void {
    this.#stale = true;
  }

  reconfigure(settings: TrafficSettings): void {
    const before = this.settings;
    this.settings = settings;
    if (JSON.stringify(before.outlier) !== JSON.stringify(settings.outlier)) {
      this.#outlier = settings.outlier && new OutlierDetector(settings.outlier);
    }
  }

  get hosts(): readonly EndpointHost[] {
    if (!this.#stale) return this.#all;
    this.#stale = false;
    const next = this.#list();
    const ids = new Set(next.map(({ id }) => id));
    for (const id of this.#hosts.keys()) {
      if (ids.has(id)) continue;
      this.#hosts.delete(id);
      this.pool.retire(id);
    }
    this.#all = next.map((host) => {
      const known = this.#hosts.get(host.id);
      // The object stays, because what is in flight is counted on it.
      const kept = known === undefined ? { ...host, active: 0 } : Object.assign(known, host);
      this.#hosts.set(host.id, kept);
      return kept;
    });
    this.#outlier?.keep(ids);
    return this.#all;
  }

  pick(context: PickContext): EndpointHost | undefined {
    const hosts = this.hosts;
    const healthy = this.#healthy(hosts, context.nowMs);
    const near = this.#near(healthy);
    return this.#picker.pick(near, this.settings.balancing, context);
  }

  #healthy(hosts: readonly EndpointHost[], nowMs: number): readonly EndpointHost[] {
    const outlier = this.#outlier;
    if (outlier === undefined || outlier.ejected(nowMs) === 0) return hosts;
    const healthy = hosts.filter(({ id }) => !outlier.isEjected(id, nowMs));
    const minimum = this.settings.outlier?.minHealthPercent ?? 0;
    // So many are out that the fault is elsewhere: all of them are used.
    const panics = minimum > 0 && (healthy.length * 100) / Math.max(1, hosts.length) < minimum;
    return panics ? hosts : healthy;
  }

  /** Nearer endpoints first, where ejection makes sure that a failing locality is left (as in Istio). */
  #near(hosts: readonly EndpointHost[]): readonly EndpointHost[] {
    const own = this.#deps.own();
    if (!this.settings.locality.enabled || this.#outlier === undefined || own === undefined) {
      return hosts;
    }
    let best: EndpointHost[] = [];
    let rank = -1;
    for (const host of hosts) {
      const shared = sharedLocality(own, host.workload);
      if (shared > rank) {
        rank = shared;
        best = [];
      }
      if (shared === rank) best.push(host);
    }
    return best;
  }

  report(host: EndpointHost, report: Report, nowMs: number): boolean {
    return this.#outlier?.report(host.id, report, nowMs, this.#all.length) ?? false;
  }

  get ejected(): number {
    return this.#outlier?.ejected(performance.now()) ?? 0;
  }
}

function sharedLocality(own: Workload, other: Workload): number {
  const [a, b] = [own.locality, other.locality];
  if (a.region !== b.region) return 0;
  if (a.zone !== b.zone) return 1;
  return a.subzone === b.subzone ? 3 : 2;
}

/** All clusters that traffic has asked for. */
export class Clusters {
  readonly #deps: ClusterDeps;
  readonly #clusters = new Map<
    string,
    { readonly key: ClusterKey; readonly cluster: UpstreamCluster }
  >();
  readonly #direct = new Map<string, UpstreamCluster>();

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    deps.state.subscribe(() => this.#changed());
  }

  /** Undefined where there is no such service, port or subset. */
  find(key: ClusterKey): UpstreamCluster | undefined {
    const id = `${key.service}|${key.port}|${key.subset ?? ''}`;
    const known = this.#clusters.get(id);
    if (known !== undefined) return known.cluster;
    const settings = this.#settingsOf(key);
    if (settings === undefined) return undefined;
    const host = key.service.slice(key.service.indexOf('/') + 1);
    const name = `inbound-vip|${key.port}|http${key.subset === undefined ? '' : `/${key.subset}`}|${host}`;
    const cluster = new UpstreamCluster(name, settings, () => this.#endpoints(key), this.#deps);
    cluster.http2 = this.#isHttp2(key);
    this.#clusters.set(id, { key, cluster });
    return cluster;
  }

  /** A single pod that was asked for by its address. */
  direct(workload: Workload, port: Port): UpstreamCluster {
    const id = `${workload.uid}|${port}`;
    let cluster = this.#direct.get(id);
    if (cluster === undefined) {
      const list = (): readonly Omit<EndpointHost, 'active'>[] => {
        const now = this.#deps.state.workload(workload.uid);
        const [ip] = now?.addresses ?? [];
        if (now === undefined || ip === undefined) return [];
        return [{ id, locality: now.locality, workload: now, address: { ip, port } }];
      };
      cluster = new UpstreamCluster(
        `inbound-pod|${port}||${workload.name}`,
        defaultTraffic,
        list,
        this.#deps,
      );
      this.#direct.set(id, cluster);
    }
    return cluster;
  }

  *[Symbol.iterator](): IterableIterator<UpstreamCluster> {
    for (const { cluster } of this.#clusters.values()) yield cluster;
    yield* this.#direct.values();
  }

  #changed(): void {
    for (const [id, { key, cluster }] of this.#clusters) {
      const settings = this.#settingsOf(key);
      if (settings === undefined) {
        cluster.pool.close();
        this.#clusters.delete(id);
        continue;
      }
      cluster.reconfigure(settings);
      cluster.http2 = this.#isHttp2(key);
      cluster.invalidate();
    }
    for (const [id, cluster] of this.#direct) {
      cluster.invalidate();
      if (cluster.hosts.length > 0 || cluster.requests > 0) continue;
      cluster.pool.close();
      this.#direct.delete(id);
    }
  }

  #isHttp2({ service, port }: ClusterKey): boolean {
    const declared = this.#deps.state.service(service)?.ports.find((one) => one.port === port);
    return declared !== undefined && declaredProtocol(declared) === 'http2';
  }

  #settingsOf(key: ClusterKey): TrafficSettings | undefined {
    const service = this.#deps.state.service(key.service);
    if (service === undefined || !service.ports.some(({ port }) => port === key.port))
      return undefined;
    const rule = this.#deps.state.cluster(key.service);
    if (key.subset === undefined) return forPort(rule?.policy ?? defaultTraffic, key.port);
    const subset = rule?.subsets.find(({ name }) => name === key.subset);
    return subset && forPort(subset.policy, key.port);
  }

  #endpoints(key: ClusterKey): readonly Omit<EndpointHost, 'active'>[] {
    const { state } = this.#deps;
    const service = state.service(key.service);
    const subset =
      key.subset === undefined
        ? undefined
        : state.cluster(key.service)?.subsets.find(({ name }) => name === key.subset);
    const wanted = subset?.labels ?? [];
    return state.endpointsOf(key.service).flatMap(({ workload, membership }) => {
      const port = membership.ports.find(({ servicePort }) => servicePort === key.port)?.targetPort;
      const [ip] = workload.addresses;
      if (port === undefined || ip === undefined) return [];
      if (!membership.ready && service?.publishNotReady !== true) return [];
      const isIn = wanted.every(([name, value]) =>
        workload.labels.some(([own, is]) => own === name && is === value),
      );
      if (!isIn) return [];
      return [
        {
          id: `${workload.uid}|${ip}:${port}`,
          locality: workload.locality,
          workload,
          address: { ip, port },
        },
      ];
    });
  }
}

function forPort(policy: TrafficPolicy, port: Port): TrafficSettings {
  return policy.ports.find((one) => one.port === port)?.settings ?? policy;
}
