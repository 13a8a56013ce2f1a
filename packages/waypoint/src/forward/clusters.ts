import { isDeepStrictEqual } from 'node:util';
import type { Hostname, IpAddress, Port, Service, Workload } from '@ambit/api';
import { declaredProtocol, defaultTraffic } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { keyOf } from '../inbound/plan.ts';
import { UpstreamCluster } from './cluster.ts';
import type { ConnectionPool } from './connections.ts';
import type { ListedEndpoint } from './endpoint.ts';
import type { ClusterKey } from './listing.ts';
import { listEndpoints, settingsOf } from './listing.ts';
import { HealthChecker } from './health-check.ts';
import type { ClusterObserver } from './observer.ts';
import type { DeclaredHttp } from './protocol-choice.ts';
import type { Probe } from './probe.ts';

export interface ClusterDeps {
  readonly state: MeshState;
  /** The waypoint's own workload, whose locality is where traffic starts. */
  readonly own: () => Workload | undefined;
  readonly pool: (cluster: UpstreamCluster) => ConnectionPool;
  readonly observer: ClusterObserver;
  /** The addresses of an endpoint that is known by its name. */
  readonly addressesOf?: (hostname: Hostname) => readonly IpAddress[];
  readonly probe: Probe;
  readonly random: () => number;
}

interface Checking {
  readonly key: ClusterKey;
  readonly checker: HealthChecker;
}

const maxIdleDirect = 1024;
const anywhere = { mode: 'any' } as const;

/** All clusters that traffic has asked for. */
export class Clusters {
  readonly #deps: ClusterDeps;
  readonly #clusters = new Map<
    string,
    { readonly key: ClusterKey; readonly cluster: UpstreamCluster }
  >();
  /** By the very object that asks, such as a route's target: most requests look no further. */
  #byKey = new WeakMap<ClusterKey, UpstreamCluster>();
  readonly #keysOf = new WeakMap<Service, Map<Port, ClusterKey>>();
  readonly #direct = new Map<string, UpstreamCluster>();
  /** By service and port: subsets share what is known of their endpoints. */
  readonly #checkers = new Map<string, Checking>();
  readonly #unsubscribe: () => void;

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    this.#unsubscribe = deps.state.subscribe(() => this.#changed());
  }

  /** Undefined where there is no such service, port or subset. */
  find(key: ClusterKey): UpstreamCluster | undefined {
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const found = this.#find(key);
    if (found !== undefined) this.#byKey.set(key, found);
    return found;
  }

  /** The one of a service as it is, without a subset. */
  of(service: Service, port: Port): UpstreamCluster | undefined {
    let keys = this.#keysOf.get(service);
    if (keys === undefined) this.#keysOf.set(service, (keys = new Map<Port, ClusterKey>()));
    const known = keys.get(port);
    if (known !== undefined) return this.find(known);
    const key = { service: keyOf(service), port };
    const found = this.find(key);
    if (found !== undefined) keys.set(port, key);
    return found;
  }

  #find(key: ClusterKey): UpstreamCluster | undefined {
    const id = `${key.service}|${key.port}|${key.subset ?? ''}`;
    const known = this.#clusters.get(id);
    if (known !== undefined) return known.cluster;
    const { state } = this.#deps;
    const settings = settingsOf(state, key);
    if (settings === undefined) return undefined;
    const host = key.service.slice(key.service.indexOf('/') + 1);
    const cluster = new UpstreamCluster({
      ...this.#deps,
      name: `inbound-vip|${key.port}|http${key.subset === undefined ? '' : `/${key.subset}`}|${host}`,
      settings,
      distribution: state.service(key.service)?.loadBalancing ?? anywhere,
      list: () => listEndpoints(state, key, this.#deps),
    });
    cluster.key = key;
    cluster.declared = this.#declared(key);
    this.#clusters.set(id, { key, cluster });
    cluster.health = this.#checkerOf(key);
    return cluster;
  }

  /** A single pod that was asked for by its address. */
  direct(workload: Workload, port: Port): UpstreamCluster {
    const id = `${workload.uid}|${port}`;
    let cluster = this.#direct.get(id);
    if (cluster === undefined) {
      const list = (): readonly ListedEndpoint[] => {
        const now = this.#deps.state.workload(workload.uid);
        const [ip] = now?.addresses ?? [];
        if (now === undefined || ip === undefined) return [];
        return [{ id, locality: now.locality, workload: now, address: { ip, port } }];
      };
      if (this.#direct.size >= maxIdleDirect) this.#dropIdle();
      cluster = new UpstreamCluster({
        ...this.#deps,
        // Which ports are asked for is up to strangers: no figures by name.
        observer: { ...this.#deps.observer, counted: () => undefined, removed: () => undefined },
        name: `inbound-pod|${port}||${workload.name}`,
        settings: defaultTraffic,
        distribution: anywhere,
        list,
      });
      this.#direct.set(id, cluster);
    }
    return cluster;
  }

  /** Names stand for other addresses than before. */
  namesChanged(): void {
    for (const { cluster } of this.#clusters.values()) cluster.invalidate();
    for (const { checker } of this.#checkers.values()) checker.sync();
  }

  *[Symbol.iterator](): IterableIterator<UpstreamCluster> {
    for (const { cluster } of this.#clusters.values()) yield cluster;
    yield* this.#direct.values();
  }

  /** Ends what runs on its own; connections are the pools' business. */
  close(): void {
    this.#unsubscribe();
    for (const { checker } of this.#checkers.values()) checker.close();
  }

  /** The checker that is asked for as things are; one that is no longer wanted as it is ends here. */
  #checkerOf(key: ClusterKey): HealthChecker | undefined {
    const { state, probe, random, observer } = this.#deps;
    const id = `${key.service}|${key.port}`;
    const known = this.#checkers.get(id)?.checker;
    const settings = state.cluster(key.service)?.healthCheck;
    const wanted = settings?.port === undefined || settings.port === key.port;
    if (known !== undefined && wanted && isDeepStrictEqual(known.settings, settings)) return known;
    known?.close();
    this.#checkers.delete(id);
    if (settings === undefined || !wanted) return undefined;
    const whole = { service: key.service, port: key.port };
    const authority = key.service.slice(key.service.indexOf('/') + 1);
    const checker = new HealthChecker({
      settings,
      random,
      hosts: () => this.find(whole)?.hosts ?? [],
      probe: async (host, how) => {
        const cluster = this.find(whole);
        return cluster !== undefined && (await probe(host, cluster, how, authority));
      },
      onChange: (host, healthy) => {
        for (const { key: of, cluster } of this.#clusters.values()) {
          if (of.service === key.service && of.port === key.port) cluster.reconsider();
        }
        observer.checked(`${key.port}|${authority}`, host, healthy);
      },
    });
    this.#checkers.set(id, { key: whole, checker });
    return checker;
  }

  #dropIdle(): void {
    for (const [id, cluster] of this.#direct) {
      if (cluster.requests > 0 || cluster.pool.connections > 0) continue;
      cluster.close();
      this.#direct.delete(id);
    }
  }

  #changed(): void {
    const { state } = this.#deps;
    for (const [id, { key, cluster }] of this.#clusters) {
      const settings = settingsOf(state, key);
      if (settings === undefined) {
        cluster.close();
        this.#clusters.delete(id);
        this.#byKey = new WeakMap();
        continue;
      }
      cluster.reconfigure(settings, state.service(key.service)?.loadBalancing ?? anywhere);
      cluster.declared = this.#declared(key);
      cluster.invalidate();
      cluster.health = this.#checkerOf(key);
    }
    for (const [id, { key, checker }] of this.#checkers) {
      if (settingsOf(state, key) !== undefined) {
        checker.sync();
        continue;
      }
      checker.close();
      this.#checkers.delete(id);
    }
    for (const [id, cluster] of this.#direct) {
      cluster.invalidate();
      if (cluster.hosts.length > 0 || cluster.requests > 0) continue;
      cluster.close();
      this.#direct.delete(id);
    }
  }

  #declared({ service, port }: ClusterKey): DeclaredHttp {
    const declared = this.#deps.state.service(service)?.ports.find((one) => one.port === port);
    const protocol = declared && declaredProtocol(declared);
    return protocol === 'http' || protocol === 'http2' ? protocol : undefined;
  }
}
