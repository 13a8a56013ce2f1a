import { setTimeout as sleep } from 'node:timers/promises';

import type { KubeClient } from '../kube/client.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Log } from '../log.ts';
import type { LeaseRecord, Seen } from './record.ts';
import { isFree, microTime, readLease, seenAgain } from './record.ts';

/** The time in which this process is the one that writes. */
export interface Term {
  /** Fencing token: larger than that of every term before, whoever had it. */
  readonly token: number;
  /** Aborted when the term ends, at the latest when another may begin. */
  readonly signal: AbortSignal;
  /** Milliseconds until it ends if it is not renewed. */
  remainingMs(): number;
}

/** Who of several controllers writes. */
export interface Lease {
  /** Undefined while another writes, or nobody. */
  term(): Term | undefined;
  /** Called when a term begins. */
  onTerm(listener: () => void): void;
  /** Gives the lease back, so that another need not wait for its end. */
  close(): Promise<void>;
}

export interface LeaseTimings {
  /** Whoever has not renewed for so long is given up by the others. */
  readonly durationMs: number;
  /** Between renewals, and between looks at a lease that another has. */
  readonly retryMs: number;
}

export const defaultLeaseTimings: LeaseTimings = { durationMs: 10_000, retryMs: 1_500 };

export interface LeaseOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  /** Unique for each process: a restarted one is another. */
  readonly identity: string;
  /** Whether this process may write at all; asked before it takes the lease, and with every renewal. */
  readonly mayHold: () => boolean;
  readonly nowMs: () => number;
  readonly timings?: LeaseTimings;
  readonly log: Log;
}

/** The term ends this much before the others may take the lease. */
const safetyShare = 0.1;
const requestTimeoutMs = 5_000;

/** Takes a Lease when it is free and renews it; loses it by itself when it cannot. */
export function startLease(options: LeaseOptions): Lease {
  return new RunningLease(options);
}

class RunningLease implements Lease {
  readonly #options: LeaseOptions;
  readonly #timings: LeaseTimings;
  readonly #path: string;
  readonly #stopped = new AbortController();
  readonly #listeners: (() => void)[] = [];
  readonly #done: Promise<void>;
  #seen: Seen | undefined;
  #term: RunningTerm | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#timings = options.timings ?? defaultLeaseTimings;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
    this.#done = this.#run();
  }

  term(): Term | undefined {
    // A process that was stopped finds out here, before its timers have run.
    if (this.#term !== undefined && this.#term.remainingMs() <= 0) this.#end('not renewed in time');
    return this.#term;
  }

  onTerm(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    let failures = 0;
    while (!signal.aborted) {
      try {
        await this.#round();
        failures = 0;
      } catch (error) {
        failures += 1;
        const fields = { err: error, lease: this.#options.name, failures };
        if (failures % 20 === 3) this.#options.log.warn(fields, 'the lease cannot be asked for');
        else this.#options.log.debug(fields, 'the lease cannot be asked for');
      }
      const jitter = 0.8 + Math.random() * 0.4;
      await sleep(this.#timings.retryMs * jitter, undefined, { signal }).catch(() => undefined);
    }
    await this.#release();
  }

  async #round(): Promise<void> {
    const held = this.term();
    if (!this.#options.mayHold()) {
      if (held !== undefined) await this.#release();
      return;
    }
    const sentMs = performance.now();
    const sentAt = Date.now();
    const found = await this.#read();
    if (found === undefined) {
      this.#take(await this.#create(), sentMs, sentAt);
      return;
    }
    this.#seen = seenAgain(this.#seen, found, performance.now());
    const { identity } = this.#options;
    if (held !== undefined && found.holder !== identity) this.#end(`${found.holder} has it`);
    const own = this.#term !== undefined && found.holder === identity;
    if (!own && !isFree(this.#seen, performance.now())) return;
    const wanted = own
      ? { holder: identity, transitions: found.transitions, acquireTime: found.acquireTime }
      : { holder: identity, transitions: found.transitions + 1 };
    this.#take(await this.#write(found, wanted), sentMs, sentAt);
  }

  async #read(): Promise<LeaseRecord | undefined> {
    const { client, name } = this.#options;
    try {
      const path = `${this.#path}/${name}`;
      return readLease(await client.request({ path, timeoutMs: requestTimeoutMs }));
    } catch (error) {
      if (kubeStatus(error) === 404) return undefined;
      throw error;
    }
  }

  async #create(): Promise<LeaseRecord | undefined> {
    const { client, name, namespace, identity } = this.#options;
    return this.#unlessTaken(() =>
      client.request({
        method: 'POST',
        path: this.#path,
        timeoutMs: requestTimeoutMs,
        body: this.#object({ name, namespace }, { holder: identity, transitions: firstTerm() }),
      }),
    );
  }

  /** Undefined when somebody else was faster. */
  async #write(found: LeaseRecord, wanted: Wanted): Promise<LeaseRecord | undefined> {
    const { client, name, namespace } = this.#options;
    const metadata = { name, namespace, resourceVersion: found.resourceVersion };
    return this.#unlessTaken(() =>
      client.request({
        method: 'PUT',
        path: `${this.#path}/${name}`,
        timeoutMs: requestTimeoutMs,
        body: this.#object(metadata, wanted),
      }),
    );
  }

  async #unlessTaken(request: () => Promise<unknown>): Promise<LeaseRecord | undefined> {
    try {
      return readLease(await request());
    } catch (error) {
      if (kubeStatus(error) === 409) return undefined;
      throw error;
    }
  }

  #object(metadata: object, { holder, transitions, acquireTime }: Wanted): object {
    const now = microTime(this.#options.nowMs());
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata,
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: holder === '' ? 1 : Math.ceil(this.#timings.durationMs / 1000),
        leaseTransitions: transitions,
        acquireTime: acquireTime ?? now,
        renewTime: now,
      },
    };
  }

  #take(record: LeaseRecord | undefined, sentMs: number, sentAt: number): void {
    if (record === undefined) return;
    this.#seen = { record, sinceMs: performance.now() };
    // Counted from before the request, so that it ends here before it ends for those who saw the answer's effect.
    const usableMs = this.#timings.durationMs * (1 - safetyShare);
    const ends = { monotonicMs: sentMs + usableMs, wallMs: sentAt + usableMs };
    if (this.#term?.token === record.transitions) {
      this.#term.renew(ends);
      return;
    }
    this.#end('another term begins');
    const term = new RunningTerm(record.transitions, ends, () => this.#end('not renewed in time'));
    if (term.remainingMs() <= 0 || this.#stopped.signal.aborted) {
      term.end();
      return;
    }
    this.#term = term;
    const { log, name } = this.#options;
    log.info({ lease: name, term: record.transitions }, 'this controller writes from now on');
    for (const listener of this.#listeners) listener();
  }

  #end(why: string): void {
    const term = this.#term;
    if (term === undefined) return;
    this.#term = undefined;
    term.end();
    const { log, name } = this.#options;
    log.warn({ lease: name, term: term.token, why }, 'this controller writes no more');
  }

  async #release(): Promise<void> {
    const { identity, log, name } = this.#options;
    if (this.#term === undefined) return;
    this.#end('given back');
    try {
      const found = await this.#read();
      if (found?.holder === identity)
        await this.#write(found, { holder: '', transitions: found.transitions });
    } catch (error) {
      log.debug({ err: error, lease: name }, 'the lease was not given back; it ends by itself');
    }
  }
}

/**
 * Of a Lease that is made anew, after one that was deleted: later than any of its terms, which are on what was deployed
 * in them. Terms change less than once a second.
 */
function firstTerm(): number {
  return Math.floor(Date.now() / 1000);
}

interface Wanted {
  readonly holder: string;
  readonly transitions: number;
  /** Now when absent. */
  readonly acquireTime?: string;
}

interface Ends {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

class RunningTerm implements Term {
  readonly token: number;
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  readonly #onEnd: () => void;
  #ends: Ends;
  #timer: NodeJS.Timeout;

  constructor(token: number, ends: Ends, onEnd: () => void) {
    this.token = token;
    this.signal = this.#abort.signal;
    this.#ends = ends;
    this.#onEnd = onEnd;
    this.#timer = this.#wait();
  }

  /** By both clocks: one stands still while the machine sleeps, the other can be set. */
  remainingMs(): number {
    const { monotonicMs, wallMs } = this.#ends;
    return Math.min(monotonicMs - performance.now(), wallMs - Date.now());
  }

  renew(ends: Ends): void {
    this.#ends = ends;
    clearTimeout(this.#timer);
    this.#timer = this.#wait();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  #wait(): NodeJS.Timeout {
    return setTimeout(this.#onEnd, Math.max(0, this.remainingMs()));
  }
}
