import { isDeepStrictEqual } from 'node:util';

import type { TrustDomain } from '@ambit/api';

import { messageOf } from '@ambit/core';

import type { KubeClient } from '../kube/client.ts';
import type { Reflector, ReflectorTimings } from '../kube/reflector.ts';
import { startReflector, wholeList } from '../kube/reflector.ts';
import { field, text } from '../kube/decode/fields.ts';
import type { Log } from '../log.ts';
import type { Authority, AuthorityFiles } from './authority.ts';
import { loadAuthority } from './authority.ts';
import type { Remembered } from './memory.ts';
import {
  authorityMemory,
  fingerprintOf,
  rememberAuthority,
  rememberedAuthority,
} from './memory.ts';
import {
  authorityFilesOf,
  pluggedInSecret,
  readOrCreateRoot,
  readRoot,
  selfSignedSecret,
} from './store.ts';

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
  /** Why there is none; undefined while it is being read, or there is one. */
  reason(): string | undefined;
  /** Settles once there is an authority. */
  readonly whenReady: Promise<void>;
  close(): Promise<void>;
}

const retryMs = 2_000;

/**
 * A plugged-in authority wins; one that is there but broken is told and waited for, never silently replaced by a root
 * that nobody else trusts. While one signs, a broken or vanished Secret changes nothing. That one was plugged in is
 * remembered in the cluster: whoever starts without its Secret signs nothing until that is back, or somebody has decided
 * for the self-made root by deleting what is remembered, which those that run then follow. Of the self-made root it is
 * remembered, too, so that nobody makes a second one while others sign by the first.
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
  /** Of the one that is plugged in. */
  #files: AuthorityFiles | undefined;
  /** Of the one that signs. Only what was remembered once can be given up by hand. */
  #isRemembered = false;
  #reason: string | undefined;
  /** The Secret as it was seen last. */
  #latest: unknown;
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

  reason(): string | undefined {
    return this.#current === undefined ? this.#reason : undefined;
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
    this.#latest = pluggedIn;
    this.#work = this.#work.then(() => this.#load(pluggedIn));
  }

  async #load(pluggedIn: unknown): Promise<void> {
    if (this.#closed) return;
    try {
      await (pluggedIn === undefined ? this.#useSelfSigned() : this.#usePluggedIn(pluggedIn));
    } catch (error) {
      this.#reason = messageOf(error);
      this.#options.log.error({ err: error }, 'the certificate authority could not be loaded');
      this.#again(pluggedIn);
    }
  }

  #again(pluggedIn: unknown): void {
    // What came meanwhile is next anyhow.
    if (this.#isClosed() || this.#latest !== pluggedIn) return;
    this.#retry = setTimeout(() => this.#follow(pluggedIn), retryMs);
  }

  /** Each once, however often it is looked at. */
  #tell(reason: string, why: object): void {
    if (this.#reason === reason) return;
    this.#reason = reason;
    this.#options.log.error(why, reason);
  }

  async #usePluggedIn(secret: unknown): Promise<void> {
    const { rootNamespace, nowMs, log } = this.#options;
    const files = authorityFilesOf(secret);
    const object = `Secret ${rootNamespace}/${pluggedInSecret}`;
    if (files === undefined) {
      this.#reason = `${object}: data needs ca-cert.pem and ca-key.pem`;
      log.error(
        { object, field: 'data' },
        'needs ca-cert.pem and ca-key.pem; the last good one is kept',
      );
      return;
    }
    const authority = await loadAuthority(files, nowMs());
    if (!authority.ok) {
      const reason = `${object}: ${authority.error.message}`;
      if (this.#reason !== reason)
        log.error({ object, ...authority.error }, 'not usable; the last good authority is kept');
      this.#reason = reason;
      // Nobody changes the Secret again when its time has come.
      if (authority.error.code === 'ca/not-yet-valid') this.#again(secret);
      return;
    }
    // Also after a list, or because it could not be remembered: the one that signs is no other then.
    if (!this.#isPluggedIn || !isDeepStrictEqual(files, this.#files))
      this.#use(authority.value, pluggedInSecret);
    this.#files = files;
    this.#reason = undefined;
    this.#isRemembered = false;
    await this.#remember(authority.value);
  }

  async #remember(authority: Authority): Promise<void> {
    const { client, rootNamespace } = this.#options;
    const secret = this.#isPluggedIn ? pluggedInSecret : selfSignedSecret;
    await rememberAuthority(client, rootNamespace, {
      secret,
      fingerprint: fingerprintOf(authority),
    });
    this.#isRemembered = true;
  }

  async #useSelfSigned(): Promise<void> {
    const { client, rootNamespace, trustDomain, nowMs } = this.#options;
    if (this.#current !== undefined && !this.#isRemembered) await this.#remember(this.#current);
    if (this.#current !== undefined && !this.#isPluggedIn) return;
    const remembered = await rememberedAuthority(client, rootNamespace);
    const isOwn = remembered?.secret === selfSignedSecret;
    if (remembered !== undefined && !isOwn) {
      this.#missing(remembered);
      this.#again(undefined);
      return;
    }
    const files = isOwn
      ? await readRoot(client, rootNamespace)
      : await readOrCreateRoot(client, rootNamespace, trustDomain, nowMs());
    if (files === undefined) {
      if (remembered !== undefined) this.#missingRoot(remembered);
      this.#again(undefined);
      return;
    }
    const authority = await loadAuthority(files, nowMs());
    if (!authority.ok) throw new TypeError(authority.error.message);
    this.#use(authority.value, 'self-made root');
    this.#isRemembered = false;
    await this.#remember(authority.value);
  }

  #missing({ fingerprint }: Remembered): void {
    const { rootNamespace } = this.#options;
    const object = `Secret ${rootNamespace}/${pluggedInSecret}`;
    const remedy =
      `restore it, or delete ConfigMap ${rootNamespace}/${authorityMemory} to have the mesh ` +
      'signed by the self-made root';
    const why = { object, fingerprint };
    if (this.#current === undefined)
      this.#tell(`${object} is missing, with the authority that was plugged in: ${remedy}`, why);
    else this.#tell(`${object} is gone; its authority is kept while this runs: ${remedy}`, why);
  }

  #missingRoot({ fingerprint }: Remembered): void {
    const { rootNamespace } = this.#options;
    const object = `Secret ${rootNamespace}/${selfSignedSecret}`;
    const remedy =
      `restore it, or delete ConfigMap ${rootNamespace}/${authorityMemory} and restart every controller to ` +
      'have another root made, which fails the traffic of the mesh until all proxies know it';
    const why = { object, fingerprint };
    this.#tell(`${object} is missing, with the root by which the mesh is signed: ${remedy}`, why);
  }

  #use(authority: Authority, from: string): void {
    this.#reason = undefined;
    this.#current = authority;
    this.#isPluggedIn = from === pluggedInSecret;
    const notAfter = authority.notAfter.toISOString();
    this.#options.log.info({ from, notAfter }, 'certificate authority ready');
    this.#options.onChange(authority);
    this.#settle();
  }
}
