import type { Collection } from '../collections/collection.ts';
import type { Log } from '../log.ts';
import type { Decode } from './cache.ts';
import { ObjectCache } from './cache.ts';
import type { KubeClient } from './client.ts';
import type { Problem } from './decode/fields.ts';
import { kubeStatus, UnusableError } from './error.ts';
import type { Reflector, ReflectorSink, ReflectorTimings } from './reflector.ts';
import { startReflector } from './reflector.ts';
import type { Place, Running } from './watch-plan.ts';
import { everywhere, overlap, pathIn, planWatches } from './watch-plan.ts';

export interface KindWatchOptions<R> {
  readonly kind: string;
  /** Cluster-wide; of several versions the first that the API knows. */
  readonly paths: readonly [string, ...string[]];
  readonly decode: Decode<R>;
  readonly into: Collection<R>;
  /** Of an API that a cluster need not have. */
  readonly optional: boolean;
  readonly metadataOnly: boolean;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** Where it is watched now; asked again with `follow`. */
  readonly places: () => readonly Place[];
  /** Whether objects of a namespace are held; all are when absent. */
  readonly includes?: (namespace: string) => boolean;
  readonly client: KubeClient;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
  readonly onChange: () => void;
  readonly onSync: () => void;
  /** A place has been listed, or the API has no such kind. */
  readonly onListed?: () => void;
  readonly onProblem: (key: string, problem: Problem | undefined) => void;
}

/** Keeps a collection equal to the objects of one kind, wherever they are watched. */
export interface KindWatch {
  readonly kind: string;
  /** Once everything was listed; a place that is added later changes nothing about that. */
  readonly synced: boolean;
  /** Why it is not synced, where what was read is the reason, or that it may not be read. */
  readonly why: string | undefined;
  /** Whether all that is included of a namespace, or without one of the whole cluster, has been read. */
  knows(namespace?: string): boolean;
  start(): void;
  /** The places are others now, or what is included. */
  follow(): void;
  /** Milliseconds since the most silent of its watches showed a sign of life; Infinity before the first sign of all. */
  ageMs(): number;
  close(): Promise<void>;
}

interface Part extends Running {
  readonly startedAt: number;
  state: Running['state'];
  stopped: boolean;
  /** Undefined only while it starts, because it asks for a list within that. */
  reflector: Reflector | undefined;
}

export function createKindWatch<R>(options: KindWatchOptions<R>): KindWatch {
  return new PlacedWatch(options);
}

class PlacedWatch<R> implements KindWatch {
  readonly #options: KindWatchOptions<R>;
  readonly #cache: ObjectCache<R>;
  readonly #parts = new Map<string, Part>();
  readonly #closing = new Set<Promise<void>>();
  /** The API does not know the kind: one watch asks for it again, not one for each place. */
  #missing = false;
  #started = false;
  #synced = false;
  #why: string | undefined;

  constructor(options: KindWatchOptions<R>) {
    this.#options = options;
    const { kind, decode, includes, into } = options;
    this.#cache = new ObjectCache<R>({
      kind,
      decode,
      ...(includes === undefined ? {} : { includes }),
      onChanges: (changes) => {
        for (const { key, after } of changes) {
          if (after === undefined) into.delete(key);
          else into.set(key, after);
        }
        options.onChange();
      },
      onProblem: options.onProblem,
    });
  }

  get kind(): string {
    return this.#options.kind;
  }

  get synced(): boolean {
    return this.#synced;
  }

  get why(): string | undefined {
    return this.#why;
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#act();
  }

  follow(): void {
    if (!this.#started) return;
    const passedOver = this.#cache.rescope();
    const before = [...this.#parts.values()];
    this.#act();
    if (!passedOver) return;
    for (const { place, stopped, reflector } of before)
      if (!stopped && !this.#cache.isWhole(place.namespace)) reflector?.relist();
  }

  knows(namespace?: string): boolean {
    if (this.#missing) return true;
    const covers = [...this.#parts.values()].some(
      ({ state, place }) =>
        state === 'listed' && (place.namespace === undefined || place.namespace === namespace),
    );
    return covers && this.#cache.isWhole(namespace);
  }

  ageMs(): number {
    const now = performance.now();
    const ages = [...this.#parts.values()].map(({ reflector, startedAt }) => ({
      age: reflector?.ageMs() ?? Infinity,
      since: now - startedAt,
    }));
    if (ages.every(({ age }) => age === Infinity)) return Infinity;
    // One that was just added is as silent as it is old.
    return Math.max(...ages.map(({ age, since }) => Math.min(age, since)));
  }

  async close(): Promise<void> {
    this.#started = false;
    for (const part of this.#parts.values()) this.#stop(part);
    await Promise.all(this.#closing);
  }

  /** Starts and stops what the places ask for, and looks whether all is known. */
  #act(): void {
    const wanted = this.#missing ? [everywhere] : this.#options.places();
    const { start, stop } = planWatches(wanted, this.#parts);
    for (const key of stop) {
      const part = this.#parts.get(key);
      if (part !== undefined) this.#stop(part);
    }
    for (const place of start) this.#watch(place);
    if (this.#synced || !wanted.every(({ key }) => this.#parts.get(key)?.state === 'listed'))
      return;
    this.#synced = true;
    this.#options.onSync();
  }

  #stop(part: Part): void {
    part.stopped = true;
    this.#parts.delete(part.place.key);
    const closed = part.reflector?.close();
    if (closed === undefined) return;
    this.#closing.add(closed);
    void closed.finally(() => this.#closing.delete(closed));
  }

  #watch(place: Place): void {
    const { client, timings, metadataOnly, fieldSelector, paths } = this.#options;
    const [path = '', ...otherPaths] = paths.map((one) => pathIn(place, one));
    const labelSelector = place.labelSelector ?? this.#options.labelSelector;
    const part: Part = {
      place,
      startedAt: performance.now(),
      state: 'asking',
      stopped: false,
      reflector: undefined,
    };
    this.#parts.set(place.key, part);
    part.reflector = startReflector({
      client,
      path,
      otherPaths,
      metadataOnly,
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(timings === undefined ? {} : { timings }),
      sink: this.#sinkOf(part),
      onFailure: (error, attempt) => this.#failed(part, error, attempt),
    });
  }

  /** What a stopped watch still tells goes nowhere. */
  #sinkOf(part: Part): ReflectorSink {
    const { namespace } = part.place;
    return {
      list: () => {
        const taker = this.#cache.list({ namespace, shared: () => this.#isShared(part) });
        return {
          page: (objects) => {
            if (!part.stopped) taker.page(objects);
          },
          done: (version) => {
            if (part.stopped) return;
            taker.done(version);
            part.state = 'listed';
            this.#why = undefined;
            if (namespace === undefined) this.#missing = false;
            this.#act();
            this.#options.onListed?.();
          },
        };
      },
      upsert: (object) => {
        if (!part.stopped) this.#cache.upsert(object);
      },
      remove: (object) => {
        if (!part.stopped) this.#cache.remove(object);
      },
    };
  }

  #isShared({ place }: Part): boolean {
    return [...this.#parts.values()].some(
      (other) => other.place.key !== place.key && overlap(other.place.namespace, place.namespace),
    );
  }

  #failed(part: Part, error: unknown, attempt: number): void {
    if (part.stopped) return;
    const { kind, optional, paths, log } = this.#options;
    const { namespace } = part.place;
    const fields = { err: error, kind, attempt, ...(namespace === undefined ? {} : { namespace }) };
    const isMissing = optional && kubeStatus(error) === 404;
    if (error instanceof UnusableError || kubeStatus(error) === 403)
      this.#why = (error as Error).message;
    if (part.state === 'asking') part.state = 'failing';
    if (isMissing && attempt >= paths.length) this.#isMissing(part);
    else this.#act();
    if (isMissing) log.debug(fields, 'the kind is still not there');
    else if (attempt > 2) log.warn(fields, 'watch failed; it is tried again');
    else log.debug(fields, 'watch interrupted');
  }

  /** The API has no such kind (yet): there are none of it, and nobody waits for them. */
  #isMissing(part: Part): void {
    const { kind, log } = this.#options;
    if (!this.#synced && !this.#missing)
      log.info({ kind }, 'the API does not know this kind; it is asked again');
    this.#missing = true;
    part.state = 'listed';
    this.#act();
    this.#options.onListed?.();
  }
}
