import type { JsonObject, KubeObject, ResourceKey } from './object.ts';
import {
  isObject,
  kubeTime,
  objectAt,
  objectsAt,
  omit,
  sameJson,
  stringAt,
  stringsAt,
} from './object.ts';
import { cleanupFinalizer } from './prepare-crd.ts';
import type { PrinterColumn, ResourceDefinition, ServedVersion } from './registry.ts';
import { storedVerbs } from './registry.ts';
import type { ObjectStore } from './store.ts';

export const crdKey: ResourceKey = {
  group: 'apiextensions.k8s.io',
  resource: 'customresourcedefinitions',
};

/**
 * Serves what each CustomResourceDefinition defines from the moment it is stored, says so on its status, and deletes
 * its objects before it goes. Rules in CEL are kept and shown, and are not evaluated.
 */
export function startCustomResources(store: ObjectStore, now: () => number): { close(): void } {
  const reconcile = (crd: KubeObject): void => {
    const definition = definitionOf(crd);
    const taken = store.registry.find(definition.key);
    if (taken?.custom === false) return;
    store.registry.add(definition);
    if (crd.metadata.deletionTimestamp === undefined) establish(store, crd, now());
    else cleanUp(store, crd, definition.key);
  };
  const own = store.observe(crdKey, ({ type, object }) => {
    if (type === 'DELETED') store.registry.remove(definitionOf(object).key);
    else reconcile(object);
  });
  const rest = store.storage.followAll(({ type, key }) => {
    if (type !== 'DELETED' || store.registry.find(key)?.custom !== true) return;
    const crd = store.get(crdKey, undefined, `${key.resource}.${key.group}`);
    if (crd?.metadata.deletionTimestamp !== undefined) cleanUp(store, crd, key);
  });
  return {
    close: () => {
      own.close();
      rest.close();
    },
  };
}

function establish(store: ObjectStore, crd: KubeObject, nowMs: number): void {
  const { singular, listKind, plural, kind, shortNames, categories } = objectAt(
    crd,
    'spec',
    'names',
  );
  const accepted = { plural, singular, kind, listKind, shortNames, categories };
  const storage = objectsAt(crd, 'spec', 'versions').find((version) => version['storage'] === true);
  const stored = new Set([
    ...stringsAt(crd, 'status', 'storedVersions'),
    String(storage?.['name']),
  ]);
  const old = objectsAt(crd, 'status', 'conditions');
  const condition = (type: string, reason: string, message: string): JsonObject =>
    old.find((one) => one['type'] === type && one['status'] === 'True') ?? {
      type,
      status: 'True',
      lastTransitionTime: kubeTime(nowMs),
      reason,
      message,
    };
  const status = {
    conditions: [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
    acceptedNames: Object.fromEntries(
      Object.entries(accepted).filter(([, value]) => value !== undefined),
    ),
    storedVersions: [...stored],
  };
  if (sameJson(crd['status'], status)) return;
  store.update(crdKey, { ...withoutVersion(crd), status }, { subresource: 'status' });
}

function cleanUp(store: ObjectStore, crd: KubeObject, key: ResourceKey): void {
  for (const { metadata } of store.list(key).items) {
    if (metadata.deletionTimestamp === undefined)
      store.delete(key, metadata.namespace, metadata.name);
  }
  const finalizers = crd.metadata.finalizers ?? [];
  if (store.list(key).items.length > 0 || !finalizers.includes(cleanupFinalizer)) return;
  if (store.get(crdKey, undefined, crd.metadata.name)?.metadata.uid !== crd.metadata.uid) return;
  const bare = withoutVersion(crd);
  store.update(crdKey, {
    ...bare,
    metadata: {
      ...bare.metadata,
      finalizers: finalizers.filter((one) => one !== cleanupFinalizer),
    },
  });
}

/** A change of the sandbox's own is not refused for a version that has moved on. */
function withoutVersion(object: KubeObject): KubeObject {
  return { ...object, metadata: omit(object.metadata, ['resourceVersion']) };
}

function definitionOf(crd: KubeObject): ResourceDefinition {
  const spec = objectAt(crd, 'spec');
  const names = objectAt(spec, 'names');
  const kind = stringAt(names, 'kind') ?? '';
  const versions = objectsAt(spec, 'versions');
  const storage = versions.find((version) => version['storage'] === true) ?? versions[0];
  return {
    key: { group: stringAt(spec, 'group') ?? '', resource: stringAt(names, 'plural') ?? '' },
    kind,
    listKind: stringAt(names, 'listKind') ?? `${kind}List`,
    singular: stringAt(names, 'singular') ?? kind.toLowerCase(),
    shortNames: stringsAt(names, 'shortNames'),
    categories: stringsAt(names, 'categories'),
    namespaced: spec['scope'] === 'Namespaced',
    verbs: storedVerbs,
    storageVersion: stringAt(storage, 'name') ?? '',
    versions: versions.map(versionOf),
    custom: true,
    subresources: [],
  };
}

function versionOf(version: JsonObject): ServedVersion {
  const { status, scale } = objectAt(version, 'subresources');
  const schema = objectAt(version, 'schema')['openAPIV3Schema'];
  const selector = stringAt(scale, 'labelSelectorPath');
  return {
    name: stringAt(version, 'name') ?? '',
    served: version['served'] === true,
    status: isObject(status),
    columns: objectsAt(version, 'additionalPrinterColumns') as unknown as readonly PrinterColumn[],
    selectableFields: objectsAt(version, 'selectableFields').map((one) =>
      (stringAt(one, 'jsonPath') ?? '').replace(/^\./, ''),
    ),
    ...(isObject(schema) ? { schema } : {}),
    ...(isObject(scale)
      ? {
          scale: {
            spec: stringAt(scale, 'specReplicasPath') ?? '.spec.replicas',
            status: stringAt(scale, 'statusReplicasPath') ?? '.status.replicas',
            ...(selector === undefined ? {} : { selector }),
          },
        }
      : {}),
  };
}
