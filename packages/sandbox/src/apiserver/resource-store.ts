import type { JsonObject, KubeObject, ResourceKey } from './object.ts';
import type { Selector } from './selectors.ts';

export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: KubeObject;
}

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number | undefined;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined;
}

export interface WriteOptions {
  readonly subresource?: 'status' | undefined;
  /** Checks and answers as if it were done, and keeps nothing. */
  readonly dryRun?: boolean | undefined;
}

/** The API's objects for the controllers in the same process; refusals are thrown as `ApiError`. */
export interface ResourceStore {
  get(key: ResourceKey, namespace: string | undefined, name: string): KubeObject | undefined;
  list(
    key: ResourceKey,
    namespace?: string,
    selector?: Selector,
  ): { readonly items: readonly KubeObject[]; readonly resourceVersion: string };
  create(key: ResourceKey, object: KubeObject, options?: WriteOptions): KubeObject;
  /** Refuses with Conflict where the object's resourceVersion is given and is not the newest. */
  update(key: ResourceKey, object: KubeObject, options?: WriteOptions): KubeObject;
  /** Applies a JSON merge patch (RFC 7386). */
  patchMerge(
    key: ResourceKey,
    namespace: string | undefined,
    name: string,
    patch: JsonObject,
    options?: WriteOptions,
  ): KubeObject;
  /** The object as it is after the call; it is still there while finalizers or a grace period hold it. */
  delete(
    key: ResourceKey,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): { readonly object: KubeObject; readonly gone: boolean };
  watch(
    key: ResourceKey,
    options: {
      readonly namespace?: string | undefined;
      readonly sinceResourceVersion?: string | undefined;
    },
    listener: (event: WatchEvent) => void,
  ): { close(): void };
  /** The present objects as ADDED, then every change. */
  observe(key: ResourceKey, listener: (event: WatchEvent) => void): { close(): void };
}
