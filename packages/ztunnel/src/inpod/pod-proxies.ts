import type { EnrolledPod } from '@ambit/api';
import type { Logger } from '@ambit/core';
import type { PodConnectionHandlers } from './pod-proxy.ts';
import { PodProxy } from './pod-proxy.ts';

export interface PodProxiesOptions {
  readonly handlers: PodConnectionHandlers;
  readonly logger: Logger;
  /** How long a released pod is still listened for. */
  readonly lingerMs: number;
  readonly started: (proxy: PodProxy) => void;
  /** Called once for each proxy that was started, when nothing new comes to it any more. */
  readonly stopped: (proxy: PodProxy, why: 'released' | 'deleted') => void;
}

/** A released pod's namespace is held this long, for connections that finish. */
const releasedHoldMs = 10 * 60_000;

interface Leaving {
  readonly proxy: PodProxy;
  readonly timer: NodeJS.Timeout;
}

/**
 * The proxies of this node's pods, by pod UID. One that is released goes on for a while as if nothing had happened: what
 * was redirected before its rules went has still to be carried, and clients hear of it later than we do.
 */
export class PodProxies {
  readonly #options: PodProxiesOptions;
  readonly #proxies = new Map<string, PodProxy>();
  readonly #leaving = new Map<string, Leaving>();
  readonly #released = new Map<PodProxy, NodeJS.Timeout>();

  constructor(options: PodProxiesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#proxies.size;
  }

  /** False for a pod that was released, though its proxy goes on for a while. */
  has(uid: string): boolean {
    return this.#proxies.has(uid);
  }

  list(): Iterable<PodProxy> {
    return this.#proxies.values();
  }

  /** Idempotent; the same pod with another namespace replaces the one before. */
  async add(pod: EnrolledPod): Promise<void> {
    const known = this.#proxies.get(pod.uid);
    if (known?.netns.inode === pod.netns.inode) return;
    if (known !== undefined) await this.remove(pod.uid, 'deleted');
    const proxy = this.#returning(pod) ?? this.#start(pod);
    this.#proxies.set(pod.uid, proxy);
    this.#options.logger.info(
      { pod: `${pod.namespace}/${pod.name}`, netns: proxy.netns.inode },
      'pod added',
    );
  }

  remove(uid: string, why: 'released' | 'deleted'): Promise<void> {
    const proxy = this.#proxies.get(uid);
    if (proxy !== undefined) {
      this.#proxies.delete(uid);
      const { pod } = proxy;
      this.#options.logger.info({ pod: `${pod.namespace}/${pod.name}`, why }, 'pod removed');
      const timer = setTimeout(() => this.#left(uid, 'released'), this.#options.lingerMs);
      timer.unref();
      this.#leaving.set(uid, { proxy, timer });
    }
    if (why === 'deleted') this.#left(uid, why);
    return Promise.resolve();
  }

  async keepOnly(uids: ReadonlySet<string>): Promise<void> {
    for (const uid of [...this.#proxies.keys()])
      if (!uids.has(uid)) await this.remove(uid, 'deleted');
  }

  giveWayAll(): void {
    for (const proxy of this.#proxies.values()) proxy.giveWay();
    for (const { proxy } of this.#leaving.values()) proxy.giveWay();
  }

  releaseAll(): void {
    for (const proxy of this.#proxies.values()) proxy.release();
    for (const { proxy } of this.#leaving.values()) proxy.release();
  }

  closeAll(): void {
    for (const proxy of this.#proxies.values()) proxy.close();
    for (const uid of [...this.#leaving.keys()]) this.#left(uid, 'deleted');
    for (const proxy of [...this.#released.keys()]) this.#close(proxy);
    this.#proxies.clear();
  }

  #start(pod: EnrolledPod): PodProxy {
    // A pod that left and comes back: its listeners are free, its namespace is the same.
    const proxy = PodProxy.start(pod, this.#options.handlers);
    this.#options.started(proxy);
    return proxy;
  }

  /** The proxy of a pod that comes back before its listeners were closed. */
  #returning(pod: EnrolledPod): PodProxy | undefined {
    const leaving = this.#leaving.get(pod.uid);
    if (leaving === undefined) return undefined;
    if (leaving.proxy.netns.inode !== pod.netns.inode) {
      this.#left(pod.uid, 'deleted');
      return undefined;
    }
    clearTimeout(leaving.timer);
    this.#leaving.delete(pod.uid);
    return leaving.proxy;
  }

  #left(uid: string, why: 'released' | 'deleted'): void {
    const leaving = this.#leaving.get(uid);
    if (leaving === undefined) return;
    const { proxy, timer } = leaving;
    clearTimeout(timer);
    this.#leaving.delete(uid);
    proxy.release();
    this.#options.stopped(proxy, why);
    if (why === 'deleted') {
      proxy.close();
      return;
    }
    const hold = setTimeout(() => this.#close(proxy), releasedHoldMs);
    hold.unref();
    this.#released.set(proxy, hold);
  }

  #close(proxy: PodProxy): void {
    clearTimeout(this.#released.get(proxy));
    this.#released.delete(proxy);
    proxy.close();
  }
}
