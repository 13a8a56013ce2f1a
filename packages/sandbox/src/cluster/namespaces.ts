import type { ConfigMap, KubeObject } from './objects.ts';
import { isTerminating } from './labels.ts';
import { isConflict, mutate, resources, type ClusterStore, type ResourceType } from './store.ts';
import { createWorkQueue } from './work-queue.ts';
import type { Controller, ControllerContext } from './controller.ts';

const rootCaName = 'kube-root-ca.crt';

/** Gives every namespace its default service account and the API's root certificate. */
export function startNamespaces({ store, logger }: ControllerContext, apiCa: string): Controller {
  const queue = createWorkQueue('namespaces', logger, async (name) => {
    const namespace = await store.get(resources.namespaces, '', name);
    if (namespace === undefined || isTerminating(namespace)) return;
    await ensure(store, resources.serviceAccounts, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'default', namespace: name },
    });
    const wanted: ConfigMap = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: rootCaName, namespace: name },
      data: { 'ca.crt': apiCa },
    };
    await ensure(store, resources.configMaps, wanted);
    await mutate(store, resources.configMaps, { namespace: name, name: rootCaName }, (object) => {
      if (object.data?.['ca.crt'] === apiCa) return false;
      object.data = { ...object.data, 'ca.crt': apiCa };
      return true;
    });
  });
  const stops = [
    store.observe(resources.namespaces, ({ object }) => queue.add(object.metadata.name)),
    store.observe(resources.configMaps, ({ kind, object }) => {
      if (kind !== 'ADDED' && object.metadata.name === rootCaName)
        queue.add(object.metadata.namespace ?? '');
    }),
  ];
  return {
    async close() {
      for (const stop of stops) stop();
      await queue.close();
    },
  };
}

async function ensure<T extends KubeObject>(
  store: ClusterStore,
  type: ResourceType<T>,
  object: T,
): Promise<void> {
  if ((await store.get(type, object.metadata.namespace ?? '', object.metadata.name)) !== undefined)
    return;
  try {
    await store.create(type, object);
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}
