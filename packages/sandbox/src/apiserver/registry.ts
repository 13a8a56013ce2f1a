import { pathNotFound } from './errors.ts';
import type { JsonObject, ResourceKey } from './object.ts';
import { resourceName } from './object.ts';

export interface PrinterColumn {
  readonly name: string;
  readonly type: string;
  readonly jsonPath: string;
  readonly format?: string;
  readonly description?: string;
  readonly priority?: number;
}

/** One version of a resource: what it serves beside the object itself. */
export interface ServedVersion {
  readonly name: string;
  readonly served: boolean;
  readonly status: boolean;
  readonly scale?: { readonly spec: string; readonly status: string; readonly selector?: string };
  /** `openAPIV3Schema` of a custom resource. */
  readonly schema?: JsonObject;
  readonly columns?: readonly PrinterColumn[];
  readonly selectableFields?: readonly string[];
}

export interface ResourceDefinition {
  readonly key: ResourceKey;
  readonly kind: string;
  readonly listKind: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
  /** The version objects are stored and handed to the sandbox's own controllers in. */
  readonly storageVersion: string;
  readonly versions: readonly ServedVersion[];
  readonly custom: boolean;
  /** Subresources beside status and scale, with the kind they take. */
  readonly subresources: readonly {
    readonly name: string;
    readonly kind: string;
    readonly verbs: readonly string[];
  }[];
}

export const storedVerbs = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
] as const;

/** What the API serves now: the builtin resources, and the custom ones as definitions come and go. */
export class Registry {
  readonly #definitions = new Map<string, ResourceDefinition>();

  constructor(builtins: readonly ResourceDefinition[]) {
    for (const definition of builtins) this.add(definition);
  }

  add(definition: ResourceDefinition): void {
    this.#definitions.set(resourceName(definition.key), definition);
  }

  remove(key: ResourceKey): void {
    this.#definitions.delete(resourceName(key));
  }

  find(key: ResourceKey): ResourceDefinition | undefined {
    return this.#definitions.get(resourceName(key));
  }

  /** @throws ApiError NotFound where nothing of that name is served */
  get(key: ResourceKey): ResourceDefinition {
    const definition = this.find(key);
    if (definition === undefined) throw pathNotFound();
    return definition;
  }

  findKind(apiVersion: string, kind: string): ResourceDefinition | undefined {
    const { group, version } = splitApiVersion(apiVersion);
    return this.all().find(
      (one) =>
        one.kind === kind &&
        one.key.group === group &&
        one.versions.some(({ name }) => name === version),
    );
  }

  all(): readonly ResourceDefinition[] {
    return [...this.#definitions.values()];
  }

  stored(): readonly ResourceDefinition[] {
    return this.all().filter(({ verbs }) => verbs.includes('list'));
  }
}

export function splitApiVersion(apiVersion: string): {
  readonly group: string;
  readonly version: string;
} {
  const slash = apiVersion.indexOf('/');
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

export function joinApiVersion(group: string, version: string): string {
  return group === '' ? version : `${group}/${version}`;
}
