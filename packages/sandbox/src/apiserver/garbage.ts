import type { KubeObject, OwnerReference, ResourceKey } from './object.ts';
import { listAt, omit } from './object.ts';
import type { StoredEvent } from './storage.ts';
import type { ObjectStore } from './store.ts';

interface Place {
  readonly key: ResourceKey;
  readonly namespace: string | undefined;
  readonly name: string;
}

const namespaces: ResourceKey = { group: '', resource: 'namespaces' };

/**
 * Deletes what belonged to a deleted owner (in the background, before the owner, or not at all, as its finalizers say)
 * and what is in a namespace that is going. Works at once, on every kind that is stored.
 */
export function startGarbageCollection(store: ObjectStore): { close(): void } {
  const collector = new Collector(store);
  for (const { key, objects } of store.storage.everything()) {
    for (const object of objects.values()) collector.learn(key, object);
  }
  return store.storage.followAll((event) => collector.handle(event));
}

class Collector {
  readonly #store: ObjectStore;
  readonly #placeByUid = new Map<string, Place>();
  readonly #dependents = new Map<string, Set<string>>();

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  learn(key: ResourceKey, object: KubeObject): void {
    const { uid, name, namespace, ownerReferences = [] } = object.metadata;
    if (uid === undefined) return;
    this.#placeByUid.set(uid, { key, namespace, name });
    for (const owner of ownerReferences) {
      const known = this.#dependents.get(owner.uid) ?? new Set();
      this.#dependents.set(owner.uid, known.add(uid));
    }
  }

  handle({ type, key, object }: StoredEvent): void {
    const { uid = '', deletionTimestamp, finalizers = [] } = object.metadata;
    if (type === 'DELETED') {
      this.#forget(uid, object);
      return;
    }
    this.learn(key, object);
    if (deletionTimestamp === undefined) {
      if (type === 'ADDED') this.#deleteIfOrphaned(uid);
      return;
    }
    if (finalizers.includes('orphan')) this.#orphan(uid, object, key);
    else if (finalizers.includes('foregroundDeletion'))
      this.#deleteDependentsFirst(uid, object, key);
    if (key.group === '' && key.resource === 'namespaces')
      this.#emptyNamespace(object.metadata.name);
  }

  #forget(uid: string, object: KubeObject): void {
    this.#placeByUid.delete(uid);
    for (const owner of object.metadata.ownerReferences ?? []) {
      const siblings = this.#dependents.get(owner.uid);
      siblings?.delete(uid);
      if (siblings?.size === 0) this.#dependents.delete(owner.uid);
      const waiting = this.#find(owner.uid);
      if (waiting?.object.metadata.finalizers?.includes('foregroundDeletion') === true) {
        this.#deleteDependentsFirst(owner.uid, waiting.object, waiting.place.key);
      }
    }
    for (const dependent of [...(this.#dependents.get(uid) ?? [])])
      this.#deleteIfOrphaned(dependent);
    const namespace = object.metadata.namespace;
    if (namespace === undefined) return;
    const home = this.#store.get(namespaces, undefined, namespace);
    if (home?.metadata.deletionTimestamp !== undefined) this.#emptyNamespace(namespace);
  }

  /** Deletes an object none of whose owners is there any more; loosens it from those that are gone otherwise. */
  #deleteIfOrphaned(uid: string): void {
    const found = this.#find(uid);
    const owners = found?.object.metadata.ownerReferences ?? [];
    if (found === undefined || owners.length === 0) return;
    const present = owners.filter((owner) => this.#find(owner.uid) !== undefined);
    if (present.length === owners.length) return;
    if (present.length === 0) this.#delete(found.place, found.object);
    else this.#setOwners(found.place, found.object, present);
  }

  #orphan(uid: string, owner: KubeObject, key: ResourceKey): void {
    for (const dependent of [...(this.#dependents.get(uid) ?? [])]) {
      const found = this.#find(dependent);
      if (found === undefined) continue;
      const others = (found.object.metadata.ownerReferences ?? []).filter((one) => one.uid !== uid);
      this.#setOwners(found.place, found.object, others);
    }
    this.#dropFinalizer(key, owner, 'orphan');
  }

  #deleteDependentsFirst(uid: string, owner: KubeObject, key: ResourceKey): void {
    for (const dependent of [...(this.#dependents.get(uid) ?? [])]) {
      const found = this.#find(dependent);
      if (found?.object.metadata.deletionTimestamp === undefined && found !== undefined) {
        this.#delete(found.place, found.object);
      }
    }
    const blocking = [...(this.#dependents.get(uid) ?? [])].some((dependent) =>
      this.#find(dependent)?.object.metadata.ownerReferences?.some(
        (one) => one.uid === uid && one.blockOwnerDeletion === true,
      ),
    );
    if (!blocking) this.#dropFinalizer(key, owner, 'foregroundDeletion');
  }

  #emptyNamespace(name: string): void {
    let left = 0;
    for (const { key, namespaced } of this.#store.registry.stored()) {
      if (!namespaced) continue;
      for (const object of this.#store.list(key, name).items) {
        if (object.metadata.deletionTimestamp === undefined) {
          this.#delete({ key, namespace: name, name: object.metadata.name }, object);
        }
      }
      left += this.#store.list(key, name).items.length;
    }
    const namespace = this.#store.get(namespaces, undefined, name);
    if (left > 0 || namespace === undefined || listAt(namespace, 'spec', 'finalizers').length === 0)
      return;
    this.#store.finalizeNamespace(name);
  }

  #setOwners(place: Place, object: KubeObject, owners: readonly OwnerReference[]): void {
    const metadata = omit(object.metadata, ['ownerReferences']);
    this.#store.update(place.key, {
      ...object,
      metadata: owners.length === 0 ? metadata : { ...metadata, ownerReferences: [...owners] },
    });
  }

  #dropFinalizer(key: ResourceKey, object: KubeObject, finalizer: string): void {
    const current = this.#store.get(key, object.metadata.namespace, object.metadata.name);
    if (current?.metadata.uid !== object.metadata.uid || current === undefined) return;
    const finalizers = (current.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    this.#store.update(key, { ...current, metadata: { ...current.metadata, finalizers } });
  }

  #delete({ key, namespace, name }: Place, object: KubeObject): void {
    if (this.#store.get(key, namespace, name)?.metadata.uid !== object.metadata.uid) return;
    this.#store.delete(key, namespace, name, { propagationPolicy: 'Background' });
  }

  #find(uid: string): { readonly place: Place; readonly object: KubeObject } | undefined {
    const place = this.#placeByUid.get(uid);
    if (place === undefined || this.#store.registry.find(place.key) === undefined) return undefined;
    const object = this.#store.get(place.key, place.namespace, place.name);
    return object?.metadata.uid === uid ? { place, object } : undefined;
  }
}
