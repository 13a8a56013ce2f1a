import { randomBytes, randomUUID } from 'node:crypto';
import {
  alreadyExists,
  conflict,
  expired,
  forbidden,
  invalid,
  modifiedMessage,
  notFound,
  required,
} from './errors.ts';
import type { JsonObject, KubeObject, ObjectMeta, ResourceKey } from './object.ts';
import { isObject, kubeTime, numberAt, omit, sameJson } from './object.ts';
import type { DeleteOptions, ResourceStore, WatchEvent, WriteOptions } from './resource-store.ts';
import type { Registry, ResourceDefinition } from './registry.ts';
import { joinApiVersion } from './registry.ts';
import type { Selector } from './selectors.ts';
import type { Storage, StoredEvent } from './storage.ts';
import type { Strategy } from './strategies.ts';
import { strategyOf } from './strategies.ts';
import { validateMetadata } from '../schema/index.ts';

export type { DeleteOptions, ResourceStore, WatchEvent, WriteOptions } from './resource-store.ts';

const namespaces: ResourceKey = { group: '', resource: 'namespaces' };

/** The store over one `Storage`: identities, versions, defaults, deletion in its stages. */
export class ObjectStore implements ResourceStore {
  readonly storage: Storage;
  readonly registry: Registry;
  readonly #now: () => number;

  constructor(storage: Storage, registry: Registry, now: () => number) {
    this.storage = storage;
    this.registry = registry;
    this.#now = now;
  }

  get(key: ResourceKey, namespace: string | undefined, name: string): KubeObject | undefined {
    return this.storage.find(key, pathOf(this.registry.get(key), namespace, name));
  }

  list(
    key: ResourceKey,
    namespace?: string,
    selector?: Selector,
  ): { items: readonly KubeObject[]; resourceVersion: string } {
    this.registry.get(key);
    const items = this.storage
      .all(key)
      .filter((object) => namespace === undefined || object.metadata.namespace === namespace)
      .filter((object) => selector?.(object) ?? true);
    return { items, resourceVersion: String(this.storage.version) };
  }

  create(key: ResourceKey, given: KubeObject, options: WriteOptions = {}): KubeObject {
    const definition = this.registry.get(key);
    const strategy = strategyOf(definition);
    const object = this.#identify(definition, given);
    const { name, namespace } = object.metadata;
    if (definition.namespaced) this.#requireOpenNamespace(key, namespace ?? '', name);
    const path = pathOf(definition, namespace, name);
    if (this.storage.find(key, path) !== undefined) throw alreadyExists(key, name);
    if (definition.versions.some(({ status }) => status) && strategy.keepsStatus !== true)
      delete object['status'];
    strategy.prepare(object, undefined, this);
    this.#check(definition, strategy, object, undefined);
    if (options.dryRun === true) return object;
    return this.storage.commit(key, path, 'ADDED', object);
  }

  update(key: ResourceKey, given: KubeObject, options: WriteOptions = {}): KubeObject {
    const definition = this.registry.get(key);
    const strategy = strategyOf(definition);
    const { name, namespace } = given.metadata;
    const path = pathOf(definition, namespace, name);
    const before = this.storage.find(key, path);
    if (before === undefined) throw notFound(key, name);
    requireFresh(key, given, before);
    const object = structuredClone(given);
    keepSystemFields(definition, object, before);
    separateStatus(definition, object, before, options.subresource);
    if (options.subresource === undefined) strategy.prepare(object, before, this);
    object.metadata.generation = generationAfter(definition, object, before);
    this.#check(definition, strategy, object, before);
    if (sameApartFromTimes(object, before)) return before;
    if (options.dryRun === true) return object;
    return this.#settle(definition, path, object);
  }

  patchMerge(
    key: ResourceKey,
    namespace: string | undefined,
    name: string,
    patch: JsonObject,
    options: WriteOptions = {},
  ): KubeObject {
    const before = this.get(key, namespace, name);
    if (before === undefined) throw notFound(key, name);
    return this.update(key, mergePatch(before, patch) as KubeObject, options);
  }

  delete(
    key: ResourceKey,
    namespace: string | undefined,
    name: string,
    options: DeleteOptions = {},
  ): { object: KubeObject; gone: boolean } {
    const definition = this.registry.get(key);
    const path = pathOf(definition, namespace, name);
    const before = this.storage.find(key, path);
    if (before === undefined) throw notFound(key, name);
    requirePreconditions(key, before, options);
    const object = structuredClone(before);
    const grace = strategyOf(definition).gracePeriod?.(before, options.gracePeriodSeconds) ?? 0;
    const planned = before.metadata.deletionGracePeriodSeconds;
    if (grace > 0 && planned !== undefined && planned <= grace)
      return { object: before, gone: false };
    markDeleted(definition, { object, before }, options, this.#now() + grace * 1000, grace);
    const settled = this.#settle(definition, path, object);
    return { object: settled, gone: this.storage.find(key, path) === undefined };
  }

  watch(
    key: ResourceKey,
    options: {
      readonly namespace?: string | undefined;
      readonly sinceResourceVersion?: string | undefined;
    },
    listener: (event: WatchEvent) => void,
  ): { close(): void } {
    const wanted = (object: KubeObject): boolean =>
      options.namespace === undefined || object.metadata.namespace === options.namespace;
    const forward = ({ type, object }: StoredEvent): void => {
      if (wanted(object)) listener({ type, object });
    };
    if (options.sinceResourceVersion !== undefined) {
      const since = Number(options.sinceResourceVersion);
      if (!Number.isSafeInteger(since))
        throw expired(`not a resource version: ${options.sinceResourceVersion}`);
      return this.storage.follow(key, since, forward);
    }
    const { items, resourceVersion } = this.list(key, options.namespace);
    for (const object of items) listener({ type: 'ADDED', object });
    return this.storage.follow(key, Number(resourceVersion), forward);
  }

  observe(key: ResourceKey, listener: (event: WatchEvent) => void): { close(): void } {
    return this.watch(key, {}, listener);
  }

  /** Lets a namespace go whose contents are gone. */
  finalizeNamespace(name: string): void {
    const definition = this.registry.get(namespaces);
    const namespace = this.storage.find(namespaces, name);
    if (namespace === undefined) return;
    this.#settle(definition, name, { ...structuredClone(namespace), spec: { finalizers: [] } });
  }

  /** Removes an object whose last hold is gone, or keeps its new state. */
  #settle(definition: ResourceDefinition, path: string, object: KubeObject): KubeObject {
    const { deletionTimestamp, deletionGracePeriodSeconds = 0, finalizers = [] } = object.metadata;
    const held = finalizers.length > 0 || strategyOf(definition).held?.(object) === true;
    const leaving = deletionTimestamp !== undefined && deletionGracePeriodSeconds === 0;
    return this.storage.commit(
      definition.key,
      path,
      leaving && !held ? 'DELETED' : 'MODIFIED',
      object,
    );
  }

  #identify(definition: ResourceDefinition, given: KubeObject): KubeObject {
    const object = structuredClone(given);
    const source = (object.metadata as ObjectMeta | undefined) ?? { name: '' };
    const prefix = source.generateName ?? '';
    const name = source.name || (prefix === '' ? '' : `${prefix.slice(0, 58)}${randomSuffix()}`);
    if (name === '') {
      throw invalid({ group: definition.key.group, kind: definition.kind }, '', [
        required('metadata.name', 'name or generateName is required'),
      ]);
    }
    object.metadata = {
      ...omit(source, [
        'namespace',
        'resourceVersion',
        'deletionTimestamp',
        'deletionGracePeriodSeconds',
      ]),
      name,
      ...(definition.namespaced ? { namespace: source.namespace ?? 'default' } : {}),
      uid: randomUUID(),
      creationTimestamp: kubeTime(this.#now()),
      generation: 1,
    };
    object.apiVersion = joinApiVersion(definition.key.group, definition.storageVersion);
    object.kind = definition.kind;
    return object;
  }

  #requireOpenNamespace(key: ResourceKey, namespace: string, name: string): void {
    const found = this.storage.find(namespaces, namespace);
    if (found === undefined) throw notFound(namespaces, namespace);
    if (found.metadata.deletionTimestamp === undefined) return;
    const message = `namespace ${namespace} is being terminated`;
    throw forbidden(
      key,
      name,
      `unable to create new content in namespace ${namespace} because it is being terminated`,
      [{ reason: 'NamespaceTerminating', message, field: 'metadata.namespace' }],
    );
  }

  #check(
    definition: ResourceDefinition,
    strategy: Strategy,
    object: KubeObject,
    before?: KubeObject,
  ): void {
    const problems = [
      ...validateMetadata(object, {
        kind: definition.kind,
        group: definition.key.group,
        namespaced: definition.namespaced,
      }),
      ...(strategy.validate?.(object, before, this) ?? []),
    ];
    if (problems.length > 0) {
      throw invalid(
        { group: definition.key.group, kind: definition.kind },
        object.metadata.name,
        problems,
      );
    }
  }
}

/** Where an object is kept within its collection. */
export function pathOf(
  definition: ResourceDefinition,
  namespace: string | undefined,
  name: string,
): string {
  return definition.namespaced ? `${namespace ?? 'default'}/${name}` : name;
}

function requirePreconditions(key: ResourceKey, before: KubeObject, options: DeleteOptions): void {
  const { uid, resourceVersion, name } = before.metadata;
  if (options.uid !== undefined && options.uid !== uid) {
    const why = `Precondition failed: UID in precondition: ${options.uid}, UID in object meta: ${uid ?? ''}`;
    throw conflict(key, name, why);
  }
  if (options.resourceVersion !== undefined && options.resourceVersion !== resourceVersion) {
    throw conflict(key, name, modifiedMessage);
  }
}

/** Writes down that an object is to go, and until when it may stay. */
function markDeleted(
  definition: ResourceDefinition,
  { object, before }: { readonly object: KubeObject; readonly before: KubeObject },
  options: DeleteOptions,
  atMs: number,
  graceSeconds: number,
): void {
  addPropagation(object, options.propagationPolicy);
  strategyOf(definition).beginDelete?.(object);
  const already = before.metadata.deletionTimestamp;
  const { metadata } = object;
  metadata.deletionTimestamp =
    graceSeconds === 0 && already !== undefined ? already : kubeTime(atMs);
  metadata.deletionGracePeriodSeconds = graceSeconds;
  if (already === undefined) metadata.generation = (metadata.generation ?? 0) + 1;
}

function requireFresh(key: ResourceKey, given: KubeObject, before: KubeObject): void {
  const { uid, resourceVersion } = given.metadata;
  if (uid !== undefined && uid !== '' && uid !== before.metadata.uid) {
    throw conflict(
      key,
      given.metadata.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${before.metadata.uid ?? ''}`,
    );
  }
  if (resourceVersion === undefined || resourceVersion === '' || resourceVersion === '0') return;
  if (resourceVersion !== before.metadata.resourceVersion)
    throw conflict(key, given.metadata.name, modifiedMessage);
}

function keepSystemFields(
  definition: ResourceDefinition,
  object: KubeObject,
  before: KubeObject,
): void {
  const { deletionTimestamp, deletionGracePeriodSeconds, generateName, uid, creationTimestamp } =
    before.metadata;
  object.metadata = {
    ...omit(object.metadata, ['deletionTimestamp', 'deletionGracePeriodSeconds', 'generateName']),
    ...(generateName === undefined ? {} : { generateName }),
    ...(uid === undefined ? {} : { uid }),
    ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    ...(deletionGracePeriodSeconds === undefined ? {} : { deletionGracePeriodSeconds }),
    ...(before.metadata.resourceVersion === undefined
      ? {}
      : { resourceVersion: before.metadata.resourceVersion }),
  };
  object.apiVersion = joinApiVersion(definition.key.group, definition.storageVersion);
  object.kind = definition.kind;
}

function separateStatus(
  definition: ResourceDefinition,
  object: KubeObject,
  before: KubeObject,
  subresource: 'status' | undefined,
): void {
  if (subresource === 'status') {
    const { status } = object;
    const { managedFields } = object.metadata;
    for (const field of Object.keys(object)) Reflect.deleteProperty(object, field);
    Object.assign(object, structuredClone(before));
    if (managedFields !== undefined) object.metadata.managedFields = managedFields;
    if (status === undefined) delete object['status'];
    else object['status'] = status;
    return;
  }
  if (!definition.versions.some(({ status }) => status)) return;
  if (before['status'] === undefined) delete object['status'];
  else object['status'] = structuredClone(before['status']);
}

function generationAfter(
  definition: ResourceDefinition,
  object: KubeObject,
  before: KubeObject,
): number {
  const generation = numberAt(before, 'metadata', 'generation') ?? 1;
  const ignored = new Set(['metadata', 'apiVersion', 'kind']);
  if (definition.versions.some(({ status }) => status)) ignored.add('status');
  const content = (from: KubeObject): JsonObject =>
    Object.fromEntries(Object.entries(from).filter(([field]) => !ignored.has(field)));
  return sameJson(content(object), content(before)) ? generation : generation + 1;
}

function sameApartFromTimes(object: KubeObject, before: KubeObject): boolean {
  const comparable = (from: KubeObject): unknown => ({
    ...from,
    metadata: {
      ...from.metadata,
      managedFields: from.metadata.managedFields?.map((entry) =>
        isObject(entry) ? { ...entry, time: '' } : entry,
      ),
    },
  });
  return sameJson(comparable(object), comparable(before));
}

function addPropagation(object: KubeObject, policy: DeleteOptions['propagationPolicy']): void {
  const finalizer =
    policy === 'Foreground' ? 'foregroundDeletion' : policy === 'Orphan' ? 'orphan' : undefined;
  const others = (object.metadata.finalizers ?? []).filter(
    (one) => policy === undefined || (one !== 'foregroundDeletion' && one !== 'orphan'),
  );
  const finalizers = finalizer === undefined ? others : [...others, finalizer];
  if (finalizers.length > 0) object.metadata.finalizers = finalizers;
  else delete object.metadata.finalizers;
}

/** RFC 7386. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const merged = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) merged.delete(field);
    else merged.set(field, mergePatch(merged.get(field), value));
  }
  return Object.fromEntries(merged);
}

const suffixLetters = 'bcdfghjklmnpqrstvwxz2456789';

function randomSuffix(): string {
  return [...randomBytes(5)].map((byte) => suffixLetters[byte % suffixLetters.length]).join('');
}
