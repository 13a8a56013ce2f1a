import { setTimeout as sleep } from 'node:timers/promises';

import type { KubeClient } from './client.ts';
import { statusOf } from './client.ts';
import { field, list, text } from './decode/fields.ts';
import { KubeError, kubeStatus } from './error.ts';

/** Takes one list page by page, so that no more of it is in memory than one page and what the taker keeps. */
export interface ListTaker {
  page(objects: readonly unknown[]): void;
  /** The list is whole, as of this version: what it lacks is gone. Not called for a list that broke off. */
  done(version: string): void;
}

/** Where a reflector puts what it sees; an ObjectCache is one. */
export interface ReflectorSink {
  /** A list begins; it changes nothing before it is done. */
  list(): ListTaker;
  upsert(object: unknown): void;
  remove(object: unknown): void;
}

/** Of a collection of few objects: the whole list at once. */
export function wholeList(replace: (objects: readonly unknown[]) => void): ReflectorSink['list'] {
  return () => {
    const all: unknown[] = [];
    return {
      page: (objects) => {
        for (const object of objects) all.push(object);
      },
      done: () => replace(all),
    };
  };
}

export interface ReflectorTimings {
  /** A watch is asked to end after a random time between these, so that a lost one cannot stay lost. */
  readonly watchMinMs: number;
  readonly watchMaxMs: number;
  /** Neither event nor bookmark for this long: the watch is taken for dead. Bookmarks come about every minute. */
  readonly stallMs: number;
  /** The whole list is taken again about so often, when a watch has ended: what a server did not tell heals. */
  readonly resyncMs: number;
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
  readonly requestTimeoutMs: number;
}

export const defaultReflectorTimings: ReflectorTimings = {
  watchMinMs: 5 * 60_000,
  watchMaxMs: 10 * 60_000,
  stallMs: 150_000,
  resyncMs: 60 * 60_000,
  backoffMinMs: 200,
  backoffMaxMs: 15_000,
  requestTimeoutMs: 60_000,
};

/** Objects asked for at a time: what a page weighs is in memory several times over while it is read. */
const defaultPageSize = 250;

export interface ReflectorOptions {
  readonly client: KubeClient;
  /** Collection to watch, for example `/api/v1/pods`. */
  readonly path: string;
  /** The same collection in other versions, each asked for where the API does not know the one before. */
  readonly otherPaths?: readonly string[];
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** Of each object only its metadata comes; the rest never leaves the API server. */
  readonly metadataOnly?: boolean;
  readonly sink: ReflectorSink;
  readonly timings?: Partial<ReflectorTimings>;
  readonly pageSize?: number;
  /** Told about every failure, which is then retried; `attempt` counts failures in a row. */
  readonly onFailure: (error: unknown, attempt: number) => void;
  /** A number from 0 to 1; Math.random by default. */
  readonly random?: () => number;
}

export interface Reflector {
  /** Milliseconds since the last sign of life of the watch; Infinity before the first. */
  ageMs(): number;
  /** How often a full list was taken. */
  readonly lists: number;
  /** Takes the whole list once more, at once, because the sink now wants what it let pass. */
  relist(): void;
  close(): Promise<void>;
}

/** Keeps a sink equal to a collection of the API for as long as it runs, whatever the connection does. */
export function startReflector(options: ReflectorOptions): Reflector {
  return new RunningReflector(options);
}

class RunningReflector implements Reflector {
  readonly #options: ReflectorOptions;
  readonly #timings: ReflectorTimings;
  readonly #abort = new AbortController();
  readonly #paths: readonly string[];
  readonly #done: Promise<void>;
  #pathAt = 0;
  #lastSignAt: number | undefined;
  #resyncAt = Infinity;
  #resourceVersion = '';
  #failures = 0;
  /** Ends the watch that runs; what is wanted is a list. */
  #again = new AbortController();
  #lists = 0;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#timings = { ...defaultReflectorTimings, ...options.timings };
    this.#paths = [options.path, ...(options.otherPaths ?? [])];
    this.#done = this.#run();
  }

  get #path(): string {
    return this.#paths[this.#pathAt] ?? this.#options.path;
  }

  get lists(): number {
    return this.#lists;
  }

  ageMs(): number {
    return this.#lastSignAt === undefined ? Infinity : performance.now() - this.#lastSignAt;
  }

  relist(): void {
    this.#again.abort();
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    let mustList = true;
    while (!this.#abort.signal.aborted) {
      try {
        mustList ||= this.#again.signal.aborted || performance.now() >= this.#resyncAt;
        if (mustList) {
          this.#again = new AbortController();
          await this.#list();
        }
        mustList = false;
        if (!this.#again.signal.aborted) await this.#watch(this.#again.signal);
      } catch (error) {
        if (this.#isClosed()) return;
        // What is served under another version now is watched there, after a list.
        const isElsewhere = kubeStatus(error) === 404 && this.#paths.length > 1;
        mustList ||= needsRelist(error, this.#failures) || isElsewhere;
        this.#failures += 1;
        if (mustList && kubeStatus(error) === 404) {
          this.#pathAt = (this.#pathAt + 1) % this.#paths.length;
        }
        this.#options.onFailure(error, this.#failures);
        await this.#backOff(error);
      }
    }
  }

  async #list(): Promise<void> {
    let taker = this.#options.sink.list();
    let next = '';
    // A continue token may expire between pages; the second try then asks for everything at once.
    let pageSize = this.#options.pageSize ?? defaultPageSize;
    for (;;) {
      const query = this.#query();
      if (pageSize > 0) query.set('limit', String(pageSize));
      if (next !== '') query.set('continue', next);
      let page: unknown;
      try {
        page = await this.#options.client.request({
          path: this.#path,
          query,
          ...this.#accept('PartialObjectMetadataList'),
          signal: this.#abort.signal,
          timeoutMs: this.#timings.requestTimeoutMs,
        });
      } catch (error) {
        if (kubeStatus(error) !== 410 || next === '') throw error;
        taker = this.#options.sink.list();
        next = '';
        pageSize = 0;
        continue;
      }
      const items = field(page, 'items');
      if (!Array.isArray(items) && items !== null) {
        throw new KubeError(`GET ${this.#path}: the answer is no list`, {});
      }
      taker.page(list(items));
      next = text(field(page, 'metadata', 'continue'));
      this.#resourceVersion = text(field(page, 'metadata', 'resourceVersion'));
      if (next === '') break;
    }
    this.#lists += 1;
    // Not all collections of all replicas at the same moment.
    this.#resyncAt = performance.now() + this.#timings.resyncMs * (0.75 + this.#random() / 2);
    this.#sign();
    taker.done(this.#resourceVersion);
  }

  async #watch(again: AbortSignal): Promise<void> {
    const { watchMinMs, watchMaxMs, stallMs } = this.#timings;
    const lifetimeMs = watchMinMs + this.#random() * (watchMaxMs - watchMinMs);
    const query = this.#query();
    query.set('watch', 'true');
    query.set('allowWatchBookmarks', 'true');
    query.set('resourceVersion', this.#resourceVersion);
    query.set('timeoutSeconds', String(Math.max(1, Math.ceil(lifetimeMs / 1000))));
    const stalled = new AbortController();
    const timer = setTimeout(() => stalled.abort(), stallMs);
    const startedAt = performance.now();
    let events = 0;
    try {
      const lines = this.#options.client.lines(
        {
          path: this.#path,
          query,
          ...this.#accept('PartialObjectMetadata'),
          signal: AbortSignal.any([this.#abort.signal, stalled.signal, again]),
        },
        () => {
          this.#sign();
          timer.refresh();
        },
      );
      for await (const line of lines) {
        events += 1;
        this.#take(line);
        this.#failures = 0;
      }
    } catch (error) {
      if (again.aborted && !this.#abort.signal.aborted) return;
      if (!stalled.signal.aborted || this.#abort.signal.aborted) throw error;
      throw new KubeError(`watch ${this.#path}: silent for ${stallMs} ms`, {
        cause: error,
      });
    } finally {
      clearTimeout(timer);
    }
    // An API server that ends watches as fast as they begin must not be asked tens of times a second.
    const ended = this.#abort.signal.aborted || again.aborted;
    if (events === 0 && performance.now() - startedAt < 1000 && !ended) {
      throw new KubeError(`watch ${this.#path}: ended at once`, {});
    }
  }

  #take(line: string): void {
    let event: unknown;
    try {
      event = JSON.parse(line);
    } catch (cause) {
      throw new KubeError(`watch ${this.#path}: an event is no JSON`, {
        reason: 'Undecodable',
        cause,
      });
    }
    const object = field(event, 'object');
    const type = text(field(event, 'type'));
    switch (type) {
      case 'ADDED':
      case 'MODIFIED':
        this.#options.sink.upsert(object);
        break;
      case 'DELETED':
        this.#options.sink.remove(object);
        break;
      case 'BOOKMARK':
        break;
      case 'ERROR':
        this.#failed(object);
      default:
        throw new KubeError(`watch ${this.#path}: unknown event ${JSON.stringify(type)}`, {
          reason: 'Undecodable',
        });
    }
    this.#advance(text(field(object, 'metadata', 'resourceVersion')));
  }

  /** Never backwards: after a reordered event the next watch must not begin behind what was seen. */
  #advance(version: string): void {
    if (version === '') return;
    const ordered = /^\d{1,20}$/.test(version) && /^\d{1,20}$/.test(this.#resourceVersion);
    if (!ordered || BigInt(version) > BigInt(this.#resourceVersion))
      this.#resourceVersion = version;
  }

  #failed(object: unknown): never {
    const status = statusOf(object);
    throw new KubeError(`watch ${this.#path}: ${status.code} ${status.message}`, {
      status: status.code,
      reason: status.code === 429 ? status.reason : 'WatchError',
    });
  }

  async #backOff(error: unknown): Promise<void> {
    const { backoffMinMs, backoffMaxMs } = this.#timings;
    const ceiling = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(this.#failures - 1, 20));
    const asked = (error as { retryAfterMs?: number }).retryAfterMs ?? 0;
    const delayMs = Math.max(Math.min(asked, backoffMaxMs), ceiling * (0.5 + this.#random() / 2));
    await sleep(delayMs, undefined, { signal: this.#abort.signal }).catch(() => undefined);
  }

  /** A server that has no such form answers with whole objects. */
  #accept(form: string): { readonly accept?: string } {
    if (this.#options.metadataOnly !== true) return {};
    return { accept: `application/json;as=${form};g=meta.k8s.io;v=v1,application/json` };
  }

  #query(): Map<string, string> {
    const { fieldSelector, labelSelector } = this.#options;
    const query = new Map<string, string>();
    if (fieldSelector !== undefined) query.set('fieldSelector', fieldSelector);
    if (labelSelector !== undefined) query.set('labelSelector', labelSelector);
    return query;
  }

  #isClosed(): boolean {
    return this.#abort.signal.aborted;
  }

  #random(): number {
    return (this.#options.random ?? Math.random)();
  }

  #sign(): void {
    this.#lastSignAt = performance.now();
  }
}

/** What cannot be mended by going on from the last seen version, or was not by doing so. */
function needsRelist(error: unknown, failuresBefore: number): boolean {
  const status = kubeStatus(error);
  const reason = (error as { reason?: unknown }).reason;
  return (
    status === 410 ||
    status === 400 ||
    status === 504 ||
    reason === 'Undecodable' ||
    // A server that cannot read what comes next breaks there again.
    (reason === 'WatchError' && failuresBefore > 0)
  );
}
