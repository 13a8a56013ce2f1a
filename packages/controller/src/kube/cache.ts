import type { Result } from '@ambit/api';

import type { Metadata, Problem } from './decode/fields.ts';
import { decodeMetadata, field, objectKey, text } from './decode/fields.ts';
import type { ListTaker } from './reflector.ts';

/** What a decoder makes of one object: a checked record, or why there is none. */
export type Decode<R> = (object: unknown, meta: Metadata) => Result<R, Problem>;

/** One object came, changed or went. `after` is undefined when it went. */
export interface CacheChange<R> {
  readonly key: string;
  readonly before: R | undefined;
  readonly after: R | undefined;
}

export interface CacheOptions<R> {
  /** Kind as it is told in problems, for example `Pod`. */
  readonly kind: string;
  readonly decode: Decode<R>;
  /** Whether objects of a namespace are held at all; all are when absent. What is passed over is not even decoded. */
  readonly includes?: (namespace: string) => boolean;
  /** Called once per applied event or list, with only what really changed. */
  readonly onChanges: (changes: readonly CacheChange<R>[]) => void;
  readonly onProblem: (key: string, problem: Problem | undefined) => void;
}

/** What a list is of. */
export interface ListOptions {
  /** The namespace of which it is everything; undefined for the whole cluster. */
  readonly namespace?: string | undefined;
  /**
   * Whether another watch tells of the same objects. What that one has told may be newer than the list, and comes
   * again by no watch: it stays.
   */
  readonly shared?: () => boolean;
}

interface Held<R> {
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** The last good record; undefined while there never was one. */
  readonly record: R | undefined;
}

interface Read<R> {
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** Undefined where this version is held already. */
  readonly decoded: Result<R, Problem> | undefined;
}

/** How many deleted objects are remembered, so that a late event cannot bring one back. */
const maxTombstones = 4096;

/**
 * The objects of one kind as records. It takes events repeated and out of order: an older version of an object
 * never replaces a newer one. A list replaces everything that it covers, as a difference.
 */
export class ObjectCache<R> {
  readonly #options: CacheOptions<R>;
  readonly #held = new Map<string, Held<R>>();
  readonly #tombstones = new Map<string, string>();
  /** Namespaces of which something was not held because it was not included. */
  readonly #passedOver = new Set<string>();

  constructor(options: CacheOptions<R>) {
    this.#options = options;
  }

  get size(): number {
    return this.#held.size;
  }

  /**
   * Takes a list: what it lacks is gone, whatever versions were seen before unless others are watching, too. Each
   * object is decoded as it comes.
   */
  list({ namespace: of, shared = () => false }: ListOptions = {}): ListTaker {
    const listed = new Map<string, Read<R>>();
    const passedOver = new Set<string>();
    const covers = (namespace: string): boolean => of === undefined || namespace === of;
    const wasShared = shared();
    return {
      page: (objects) => {
        for (const object of objects) {
          if (this.#passesOver(object, passedOver)) continue;
          const meta = decodeMetadata(object);
          if (meta !== undefined) listed.set(objectKey(meta), this.#read(object, meta));
        }
      },
      done: (version) => {
        // What has gone out of scope since its page came.
        for (const [key, { namespace }] of listed) {
          if (this.#includes(namespace)) continue;
          listed.delete(key);
          passedOver.add(namespace);
        }
        for (const namespace of this.#passedOver)
          if (covers(namespace)) this.#passedOver.delete(namespace);
        for (const namespace of passedOver) this.#passedOver.add(namespace);
        if (wasShared || shared()) this.#merge(listed, covers, version);
        else this.#replace(listed, covers);
      },
    };
  }

  /** What is included has changed: drops what no longer is. True when there is something to read that was passed over. */
  rescope(): boolean {
    const changes: CacheChange<R>[] = [];
    for (const [key, { namespace }] of this.#held) {
      if (this.#includes(namespace)) continue;
      this.#passedOver.add(namespace);
      this.#drop(key, changes);
    }
    this.#tell(changes);
    return [...this.#passedOver].some((namespace) => this.#includes(namespace));
  }

  /** Whether of what is included nothing was passed over: in a namespace, or anywhere. */
  isWhole(namespace?: string): boolean {
    return namespace === undefined ? this.#passedOver.size === 0 : !this.#passedOver.has(namespace);
  }

  #includes(namespace: string): boolean {
    return this.#options.includes?.(namespace) ?? true;
  }

  #passesOver(object: unknown, noted: Set<string>): boolean {
    const namespace = text(field(object, 'metadata', 'namespace'));
    if (this.#includes(namespace)) return false;
    noted.add(namespace);
    // A list that is not done yet may be followed by nothing: what came into scope meanwhile must be read again.
    this.#passedOver.add(namespace);
    return true;
  }

  #replace(listed: ReadonlyMap<string, Read<R>>, covers: (namespace: string) => boolean): void {
    for (const key of this.#tombstones.keys())
      if (covers(namespaceOf(key))) this.#tombstones.delete(key);
    const changes: CacheChange<R>[] = [];
    for (const [key, read] of listed) this.#put(key, read, changes);
    for (const [key, { namespace }] of this.#held)
      if (covers(namespace) && !listed.has(key)) this.#drop(key, changes);
    this.#tell(changes);
  }

  /** As a replacement, but for what is known to be newer than the list. */
  #merge(
    listed: ReadonlyMap<string, Read<R>>,
    covers: (namespace: string) => boolean,
    version: string,
  ): void {
    const changes: CacheChange<R>[] = [];
    for (const [key, read] of listed)
      if (!this.#isStale(key, read.resourceVersion)) this.#put(key, read, changes);
    for (const [key, { namespace, resourceVersion }] of this.#held) {
      if (!covers(namespace) || listed.has(key) || isOlder(version, resourceVersion)) continue;
      // The other watch may lag, and tell of it as it was.
      this.#bury(key, version);
      this.#drop(key, changes);
    }
    this.#tell(changes);
  }

  /** Whether a newer version of an object was seen, be it that it was deleted. */
  #isStale(key: string, version: string): boolean {
    const seen = this.#held.get(key)?.resourceVersion ?? this.#tombstones.get(key);
    return seen !== undefined && isOlder(version, seen);
  }

  upsert(object: unknown): void {
    if (this.#passesOver(object, this.#passedOver)) return;
    const meta = decodeMetadata(object);
    if (meta === undefined) return;
    const key = objectKey(meta);
    if (this.#isStale(key, meta.resourceVersion)) return;
    const changes: CacheChange<R>[] = [];
    this.#put(key, this.#read(object, meta), changes);
    this.#tell(changes);
  }

  remove(object: unknown): void {
    if (this.#passesOver(object, this.#passedOver)) return;
    const meta = decodeMetadata(object);
    if (meta === undefined) return;
    const key = objectKey(meta);
    const held = this.#held.get(key);
    if (held !== undefined && isOlder(meta.resourceVersion, held.resourceVersion)) return;
    this.#bury(key, meta.resourceVersion);
    const changes: CacheChange<R>[] = [];
    this.#drop(key, changes);
    this.#tell(changes);
  }

  #bury(key: string, version: string): void {
    this.#tombstones.delete(key);
    this.#tombstones.set(key, version);
    if (this.#tombstones.size <= maxTombstones) return;
    for (const oldest of this.#tombstones.keys()) {
      this.#tombstones.delete(oldest);
      break;
    }
  }

  /** What is new in an object. */
  #read(object: unknown, meta: Metadata): Read<R> {
    const { namespace, uid, resourceVersion } = meta;
    const held = this.#held.get(objectKey(meta));
    const same = held?.uid === uid && held.resourceVersion === resourceVersion;
    const known = same && resourceVersion !== '';
    const decoded = known ? undefined : this.#options.decode(object, meta);
    return { namespace, uid, resourceVersion, decoded };
  }

  #put(key: string, read: Read<R>, changes: CacheChange<R>[]): void {
    const { namespace, uid, resourceVersion, decoded } = read;
    if (decoded === undefined) return;
    const held = this.#held.get(key);
    this.#options.onProblem(key, decoded.ok ? undefined : decoded.error);
    // Another object under the same name inherits nothing; the same one keeps its last good record.
    const lastGood = held?.uid === uid ? held.record : undefined;
    const record = decoded.ok ? decoded.value : lastGood;
    this.#tombstones.delete(key);
    this.#held.set(key, { namespace, uid, resourceVersion, record });
    if (record !== held?.record) changes.push({ key, before: held?.record, after: record });
  }

  #drop(key: string, changes: CacheChange<R>[]): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    this.#options.onProblem(key, undefined);
    if (held.record !== undefined) changes.push({ key, before: held.record, after: undefined });
  }

  #tell(changes: readonly CacheChange<R>[]): void {
    if (changes.length > 0) this.#options.onChanges(changes);
  }
}

/** Of an object by its key. */
function namespaceOf(key: string): string {
  return key.slice(0, Math.max(0, key.indexOf('/')));
}

/** Versions of one kind are ordered whole numbers in every API server; anything else is not compared. */
function isOlder(version: string, seen: string): boolean {
  if (!/^\d{1,20}$/.test(version) || !/^\d{1,20}$/.test(seen)) return false;
  return BigInt(version) < BigInt(seen);
}
