import type { EnrolledPod } from '@ambit/api';
import type { Logger } from '@ambit/core';
import type { PodConnectionHandlers } from './pod-proxy.ts';
import { PodProxy } from './pod-proxy.ts';

export interface PodProxiesOptions {
  readonly handlers: PodConnectionHandlers;
  readonly logger: Logger;
  readonly started: (proxy: PodProxy) => void;
  /** Called once for each proxy that was started. */
  readonly stopped: (proxy: PodProxy, why: 'released' | 'deleted') => void;
}

/** A released pod's namespace is held this long, for connections that finish. */
const releasedHoldMs = 10 * 60_000;

/** The proxies of this node's pods, by pod UID. */
export class PodProxies {
  readonly #options: PodProxiesOptions;
  readonly #proxies = new Map<string, PodProxy>();
  readonly #released = new Map<PodProxy, NodeJS.Timeout>();

  constructor(options: PodProxiesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#proxies.size;
  }

  list(): Iterable<PodProxy> {
    return this.#proxies.values();
  }

  /** Idempotent; the same pod with another namespace replaces the one before. */
  async add(pod: EnrolledPod): Promise<void> {
    const known = this.#proxies.get(pod.uid);
    if (known?.netns.inode === pod.netns.inode) return;
    if (known !== undefined) await this.remove(pod.uid, 'deleted');
    // A pod that was let go and comes back: its listeners are free, its namespace is the same.
    const proxy = PodProxy.start(pod, this.#options.handlers);
    this.#proxies.set(pod.uid, proxy);
    this.#options.started(proxy);
    this.#options.logger.info(
      { pod: `${pod.namespace}/${pod.name}`, netns: proxy.netns.inode },
      'pod added',
    );
  }

  remove(uid: string, why: 'released' | 'deleted'): Promise<void> {
    const proxy = this.#proxies.get(uid);
    if (proxy === undefined) return Promise.resolve();
    this.#proxies.delete(uid);
    proxy.release();
    this.#options.stopped(proxy, why);
    const { pod } = proxy;
    this.#options.logger.info({ pod: `${pod.namespace}/${pod.name}`, why }, 'pod removed');
    if (why === 'deleted') {
      proxy.close();
    } else {
      const timer = setTimeout(() => this.#close(proxy), releasedHoldMs);
      timer.unref();
      this.#released.set(proxy, timer);
    }
    return Promise.resolve();
  }

  async keepOnly(uids: ReadonlySet<string>): Promise<void> {
    for (const uid of [...this.#proxies.keys()])
      if (!uids.has(uid)) await this.remove(uid, 'deleted');
  }

  releaseAll(): void {
    for (const proxy of this.#proxies.values()) proxy.release();
  }

  closeAll(): void {
    for (const proxy of this.#proxies.values()) proxy.close();
    for (const proxy of [...this.#released.keys()]) this.#close(proxy);
    this.#proxies.clear();
  }

  #close(proxy: PodProxy): void {
    clearTimeout(this.#released.get(proxy));
    this.#released.delete(proxy);
    proxy.close();
  }
}
