import type { TrustDomain } from '@ambit/api';

import type { KubeClient } from '../kube/client.ts';
import type { Reflector, ReflectorTimings } from '../kube/reflector.ts';
import { startReflector, wholeList } from '../kube/reflector.ts';
import { field, text } from '../kube/decode/fields.ts';
import type { Log } from '../log.ts';
import type { Authority } from './authority.ts';
import { loadAuthority } from './authority.ts';
import { authorityFilesOf, pluggedInSecret, readOrCreateRoot } from './store.ts';

export interface KeeperOptions {
  readonly client: KubeClient;
  readonly rootNamespace: string;
  readonly trustDomain: TrustDomain;
  readonly nowMs: () => number;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
  /** Another authority signs from now on. */
  readonly onChange: (authority: Authority) => void;
}

/** Holds the authority that signs, and follows the Secret from which users may plug in another. */
export interface AuthorityKeeper {
  current(): Authority | undefined;
  /** Settles once there is an authority. */
  readonly whenReady: Promise<void>;
  close(): Promise<void>;
}

const retryMs = 2_000;

/**
 * A plugged-in authority wins; one that is there but broken is told and waited for, never silently replaced by a root
 * that nobody else trusts. While one signs, a broken or vanished Secret changes nothing.
 */
export function startAuthorityKeeper(options: KeeperOptions): AuthorityKeeper {
  return new RunningKeeper(options);
}

class RunningKeeper implements AuthorityKeeper {
  readonly whenReady: Promise<void>;
  readonly #options: KeeperOptions;
  readonly #reflector: Reflector;
  #settle: () => void = () => undefined;
  #current: Authority | undefined;
  #isPluggedIn = false;
  #retry: NodeJS.Timeout | undefined;
  #work: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.whenReady = new Promise((resolve) => (this.#settle = resolve));
    const isOurs = (object: unknown): boolean =>
      text(field(object, 'metadata', 'name')) === pluggedInSecret;
    this.#reflector = startReflector({
      client: options.client,
      path: `/api/v1/namespaces/${options.rootNamespace}/secrets`,
      fieldSelector: `metadata.name=${pluggedInSecret}`,
      ...(options.timings === undefined ? {} : { timings: options.timings }),
      sink: {
        list: wholeList((objects) => this.#follow(objects.find(isOurs))),
        upsert: (object) => {
          if (isOurs(object)) this.#follow(object);
        },
        remove: (object) => {
          if (isOurs(object)) this.#follow(undefined);
        },
      },
      onFailure: (error, attempt) => {
        options.log.warn({ err: error, attempt }, 'watch of the plugged-in authority failed');
      },
    });
  }

  current(): Authority | undefined {
    return this.#current;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    await this.#reflector.close();
    await this.#work;
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  /** One at a time, in the order of the events. */
  #follow(pluggedIn: unknown): void {
    clearTimeout(this.#retry);
    this.#work = this.#work.then(() => this.#load(pluggedIn));
  }

  async #load(pluggedIn: unknown): Promise<void> {
    if (this.#closed) return;
    try {
      await (pluggedIn === undefined ? this.#useSelfSigned() : this.#usePluggedIn(pluggedIn));
    } catch (error) {
      this.#options.log.error({ err: error }, 'the certificate authority could not be loaded');
      if (!this.#isClosed()) this.#retry = setTimeout(() => this.#follow(pluggedIn), retryMs);
    }
  }

  async #usePluggedIn(secret: unknown): Promise<void> {
    const { rootNamespace, nowMs, log } = this.#options;
    const files = authorityFilesOf(secret);
    const object = `Secret ${rootNamespace}/${pluggedInSecret}`;
    if (files === undefined) {
      log.error(
        { object, field: 'data' },
        'needs ca-cert.pem and ca-key.pem; the last good one is kept',
      );
      return;
    }
    const authority = await loadAuthority(files, nowMs());
    if (authority.ok) this.#use(authority.value, pluggedInSecret);
    else log.error({ object, ...authority.error }, 'not usable; the last good authority is kept');
  }

  async #useSelfSigned(): Promise<void> {
    const { client, rootNamespace, trustDomain, nowMs, log } = this.#options;
    if (this.#current !== undefined) {
      if (!this.#isPluggedIn) return;
      log.warn(
        { object: `Secret ${rootNamespace}/${pluggedInSecret}` },
        'gone; its authority is kept',
      );
      return;
    }
    const files = await readOrCreateRoot(client, rootNamespace, trustDomain, nowMs());
    const authority = await loadAuthority(files, nowMs());
    if (!authority.ok) throw new TypeError(authority.error.message);
    this.#use(authority.value, 'self-made root');
  }

  #use(authority: Authority, from: string): void {
    this.#current = authority;
    this.#isPluggedIn = from === pluggedInSecret;
    const notAfter = authority.certificate.notAfter.toISOString();
    this.#options.log.info({ from, notAfter }, 'certificate authority ready');
    this.#options.onChange(authority);
    this.#settle();
  }
}
