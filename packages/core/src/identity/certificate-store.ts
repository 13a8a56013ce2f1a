import type { SpiffeId, SpiffeIdentity } from '@ambit/api';
import { MeshError, causeChain } from '../errors.ts';
import type { Backoff } from '../lifecycle/backoff.ts';
import { createBackoff } from '../lifecycle/backoff.ts';
import type { Logger } from '../observe/logger.ts';
import type { WorkloadCertificate } from '../tls/index.ts';
import { renewalSpreadMs } from './renewal.ts';

/** The time, passed in so that tests need not wait for it. */
export interface Clock {
  now(): number;
  /** Calls back after a while; returns how to cancel. */
  after(ms: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

export interface CertificateStoreOptions {
  /** Fetches a new certificate; rejects when the authority refuses or is away. */
  readonly request: (identity: SpiffeIdentity) => Promise<WorkloadCertificate>;
  readonly logger: Logger;
  /** Called with each new certificate, so that sessions made with an older one can be retired. */
  readonly onChange?: (certificate: WorkloadCertificate) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly maxConcurrent?: number;
}

export interface CertificateView {
  readonly identity: SpiffeId;
  readonly holders: number;
  readonly state: 'fetching' | 'valid' | 'expired';
  readonly notAfter?: Date;
  readonly refreshAt?: Date;
  readonly lastError?: string;
}

/** One certificate for each identity that somebody holds. */
export interface CertificateStore {
  /** Keeps an identity's certificate fetched and fresh until as many `release` calls came. */
  hold(identity: SpiffeIdentity): void;
  release(identity: SpiffeIdentity): void;
  /** The certificate in force now; never an expired one. */
  current(identity: SpiffeId): WorkloadCertificate | undefined;
  /** Waits for it; rejects when none came in time or nobody holds the identity. */
  acquire(identity: SpiffeId, deadlineMs: number): Promise<WorkloadCertificate>;
  /** Fetches those anew that are stale, and what is being fetched now once more; spread over a while. */
  renew(isStale: (certificate: WorkloadCertificate) => boolean): void;
  view(): CertificateView[];
  close(): void;
}

/** How often the clock on the wall is looked at: timers stand still while a machine sleeps. */
const recheckMs = 5_000;
const backoffMinMs = 200;
const backoffMaxMs = 150_000;
const defaultMaxConcurrent = 8;

interface Entry {
  readonly identity: SpiffeIdentity;
  readonly backoff: Backoff;
  readonly waiters: Set<Waiter>;
  holders: number;
  certificate: WorkloadCertificate | undefined;
  refreshAtMs: number;
  fetching: boolean;
  /** Whether what is being fetched, which was asked for before, is to be another. */
  isStale: ((certificate: WorkloadCertificate) => boolean) | undefined;
  notBeforeMs: number;
  lastError: string | undefined;
}

interface Waiter {
  readonly give: (certificate: WorkloadCertificate) => void;
  readonly fail: (why: string) => void;
}

export function createCertificateStore(options: CertificateStoreOptions): CertificateStore {
  return new Store(options);
}

class Store implements CertificateStore {
  readonly #options: CertificateStoreOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #entries = new Map<SpiffeId, Entry>();
  #running = 0;
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  constructor(options: CertificateStoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  hold(identity: SpiffeIdentity): void {
    const entry = this.#entries.get(identity.uri);
    if (entry !== undefined) {
      entry.holders += 1;
      return;
    }
    this.#entries.set(identity.uri, {
      identity,
      backoff: createBackoff(backoffMinMs, backoffMaxMs, this.#random),
      waiters: new Set(),
      holders: 1,
      certificate: undefined,
      refreshAtMs: 0,
      fetching: false,
      isStale: undefined,
      notBeforeMs: 0,
      lastError: undefined,
    });
    this.#pump();
  }

  release(identity: SpiffeIdentity): void {
    const entry = this.#entries.get(identity.uri);
    if (entry === undefined) return;
    entry.holders -= 1;
    if (entry.holders > 0) return;
    this.#entries.delete(identity.uri);
    for (const waiter of entry.waiters) waiter.fail('the last workload with this identity is gone');
    entry.waiters.clear();
  }

  current(identity: SpiffeId): WorkloadCertificate | undefined {
    const certificate = this.#entries.get(identity)?.certificate;
    return certificate !== undefined && certificate.notAfter.getTime() > this.#clock.now()
      ? certificate
      : undefined;
  }

  async acquire(identity: SpiffeId, deadlineMs: number): Promise<WorkloadCertificate> {
    const current = this.current(identity);
    if (current !== undefined) return current;
    const entry = this.#entries.get(identity);
    if (entry === undefined || this.#closed) {
      throw new MeshError('identity/not-held', `no workload with identity ${identity} is here`);
    }
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        cancel();
        entry.waiters.delete(waiter);
      };
      const waiter: Waiter = {
        give: (certificate) => {
          settle();
          resolve(certificate);
        },
        fail: (why) => {
          settle();
          reject(
            new MeshError('identity/no-certificate', `no certificate for ${identity}: ${why}`),
          );
        },
      };
      const cancel = this.#clock.after(deadlineMs, () => {
        waiter.fail(entry.lastError ?? `none came within ${deadlineMs} ms`);
      });
      entry.waiters.add(waiter);
    });
  }

  renew(isStale: (certificate: WorkloadCertificate) => boolean): void {
    const spreadMs = renewalSpreadMs(this.#entries.size);
    for (const entry of this.#entries.values()) {
      if (entry.fetching) entry.isStale = isStale;
      else if (entry.certificate !== undefined && isStale(entry.certificate))
        entry.refreshAtMs = Math.min(entry.refreshAtMs, this.#soon(spreadMs));
    }
    this.#pump();
  }

  #soon(spreadMs: number): number {
    return this.#clock.now() + spreadMs * this.#random();
  }

  view(): CertificateView[] {
    return [...this.#entries.values()].map(({ identity, holders, certificate, lastError }) => ({
      identity: identity.uri,
      holders,
      state:
        certificate === undefined ? 'fetching' : this.current(identity.uri) ? 'valid' : 'expired',
      ...(certificate === undefined
        ? {}
        : { notAfter: certificate.notAfter, refreshAt: certificate.refreshAt }),
      ...(lastError === undefined ? {} : { lastError }),
    }));
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    for (const entry of this.#entries.values()) {
      for (const waiter of [...entry.waiters]) waiter.fail('the proxy is stopping');
    }
    this.#entries.clear();
  }

  /** Starts what is due, those without a certificate first, and sleeps until the next is. */
  #pump(): void {
    if (this.#closed) return;
    const now = this.#clock.now();
    const due = [...this.#entries.values()]
      .filter((entry) => !entry.fetching && Math.max(entry.refreshAtMs, entry.notBeforeMs) <= now)
      .sort((a, b) => priority(a) - priority(b));
    const room = (this.#options.maxConcurrent ?? defaultMaxConcurrent) - this.#running;
    for (const entry of due.slice(0, Math.max(0, room))) void this.#fetch(entry);
    this.#sleep(now);
  }

  #sleep(now: number): void {
    this.#cancelTimer?.();
    const next = Math.min(
      recheckMs,
      ...[...this.#entries.values()]
        .filter(({ fetching }) => !fetching)
        .map((entry) => Math.max(1, Math.max(entry.refreshAtMs, entry.notBeforeMs) - now)),
    );
    this.#cancelTimer = this.#clock.after(next, () => this.#pump());
  }

  async #fetch(entry: Entry): Promise<void> {
    entry.fetching = true;
    this.#running += 1;
    try {
      const certificate = await this.#options.request(entry.identity);
      if (this.#entries.get(entry.identity.uri) === entry) this.#take(entry, certificate);
    } catch (error) {
      entry.lastError = causeChain(error);
      const waitMs = entry.backoff.nextMs();
      entry.notBeforeMs = this.#clock.now() + waitMs;
      const { uri } = entry.identity;
      this.#options.logger.warn(
        { identity: uri, err: error, retryMs: Math.round(waitMs) },
        'certificate not fetched',
      );
    } finally {
      entry.fetching = false;
      this.#running -= 1;
      this.#pump();
    }
  }

  #take(entry: Entry, certificate: WorkloadCertificate): void {
    const first = entry.certificate === undefined;
    entry.certificate = certificate;
    entry.lastError = undefined;
    entry.backoff.reset();
    entry.notBeforeMs = 0;
    // Spread over a tenth of the time, so that a thousand certificates fetched together are not renewed together.
    const refreshAt = certificate.refreshAt.getTime();
    const jitter = (refreshAt - certificate.notBefore.getTime()) * 0.1 * this.#random();
    entry.refreshAtMs = refreshAt - jitter;
    if (entry.isStale?.(certificate) === true)
      entry.refreshAtMs = this.#soon(renewalSpreadMs(this.#entries.size));
    entry.isStale = undefined;
    for (const waiter of [...entry.waiters]) waiter.give(certificate);
    if (!first) this.#options.onChange?.(certificate);
  }
}

/** Somebody waits, then nothing there yet, then renewal. */
function priority(entry: Entry): number {
  if (entry.waiters.size > 0) return 0;
  return entry.certificate === undefined ? 1 : 2;
}
