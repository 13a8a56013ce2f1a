import { expired } from './errors.ts';
import type { KubeObject, ResourceKey } from './object.ts';
import { deepFreeze, resourceName } from './object.ts';

export interface StoredEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: KubeObject;
  /** What the object was before; for a selector that it has left or entered. */
  readonly previous?: KubeObject;
  readonly version: number;
  readonly key: ResourceKey;
}

export type EventListener = (event: StoredEvent) => void;

interface Collection {
  readonly key: ResourceKey;
  readonly objects: Map<string, KubeObject>;
  readonly log: StoredEvent[];
  /** Changes up to this version are no longer in the log. */
  forgotten: number;
  readonly listeners: Set<{ readonly listener: EventListener; seen: number }>;
}

/** How many changes of one resource a watch can resume over. */
const logLength = 2000;

/**
 * Objects by resource with one version counter for all, and a bounded log of changes for watches.
 * Events reach every listener in version order, also when a listener itself changes something.
 */
export class Storage {
  readonly #collections = new Map<string, Collection>();
  readonly #everything = new Set<EventListener>();
  readonly #queue: StoredEvent[] = [];
  readonly #onListenerError: (error: unknown) => void;
  readonly #logLength: number;
  #version = 1;
  #draining = false;

  constructor(onListenerError: (error: unknown) => void, watchWindow: number = logLength) {
    this.#onListenerError = onListenerError;
    this.#logLength = watchWindow;
  }

  get version(): number {
    return this.#version;
  }

  find(key: ResourceKey, path: string): KubeObject | undefined {
    return this.#collections.get(resourceName(key))?.objects.get(path);
  }

  /** All objects of a resource in the order of their paths, which is the order of the API's lists. */
  all(key: ResourceKey): readonly KubeObject[] {
    const objects =
      this.#collections.get(resourceName(key))?.objects ?? new Map<string, KubeObject>();
    return [...objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  commit(
    key: ResourceKey,
    path: string,
    type: StoredEvent['type'],
    object: KubeObject,
  ): KubeObject {
    const collection = this.#collection(key);
    const version = ++this.#version;
    const stored = deepFreeze({
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(version) },
    });
    const previous = collection.objects.get(path);
    if (type === 'DELETED') collection.objects.delete(path);
    else collection.objects.set(path, stored);
    const event: StoredEvent = {
      type,
      object: stored,
      version,
      key: collection.key,
      ...(previous === undefined ? {} : { previous }),
    };
    collection.log.push(event);
    if (collection.log.length > this.#logLength) {
      collection.forgotten = collection.log.shift()?.version ?? collection.forgotten;
    }
    this.#queue.push(event);
    this.#drain();
    return stored;
  }

  /** Calls the listener for each change after `since`, first for those already made. @throws ApiError Expired */
  follow(key: ResourceKey, since: number, listener: EventListener): { close(): void } {
    const collection = this.#collection(key);
    if (since < collection.forgotten) {
      throw expired(`too old resource version: ${since} (${collection.forgotten + 1})`);
    }
    let seen = since;
    const next = (): StoredEvent | undefined =>
      collection.log.find(({ version }) => version > seen);
    for (let event = next(); event !== undefined; event = next()) {
      seen = event.version;
      this.#call(listener, event);
    }
    const follower = { listener, seen };
    collection.listeners.add(follower);
    return { close: () => collection.listeners.delete(follower) };
  }

  /** Calls the listener for every change of every resource. */
  followAll(listener: EventListener): { close(): void } {
    this.#everything.add(listener);
    return { close: () => this.#everything.delete(listener) };
  }

  everything(): readonly {
    readonly key: ResourceKey;
    readonly objects: ReadonlyMap<string, KubeObject>;
  }[] {
    return [...this.#collections.values()].map(({ key, objects }) => ({ key, objects }));
  }

  /** Puts back what was saved; watches from before it must list anew. */
  restore(
    version: number,
    saved: readonly { key: ResourceKey; objects: readonly [string, KubeObject][] }[],
  ): void {
    this.#version = version;
    for (const { key, objects } of saved) {
      const collection = this.#collection(key);
      for (const [path, object] of objects) collection.objects.set(path, deepFreeze(object));
    }
    for (const collection of this.#collections.values()) collection.forgotten = version;
  }

  #collection(key: ResourceKey): Collection {
    const name = resourceName(key);
    let found = this.#collections.get(name);
    if (found === undefined) {
      found = { key, objects: new Map(), log: [], forgotten: 0, listeners: new Set() };
      this.#collections.set(name, found);
    }
    return found;
  }

  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let event = this.#queue.shift(); event !== undefined; event = this.#queue.shift()) {
        for (const follower of [...this.#collection(event.key).listeners]) {
          if (event.version <= follower.seen) continue;
          follower.seen = event.version;
          this.#call(follower.listener, event);
        }
        for (const listener of [...this.#everything]) this.#call(listener, event);
      }
    } finally {
      this.#draining = false;
    }
  }

  #call(listener: EventListener, event: StoredEvent): void {
    try {
      listener(event);
    } catch (error) {
      this.#onListenerError(error);
    }
  }
}
