import { rootCertConfigMap, rootCertKey } from '@ambit/api';

import type { Collection } from '../collections/collection.ts';
import type { KubeClient } from '../kube/client.ts';
import { decodeMetadata, field, text } from '../kube/decode/fields.ts';
import type { NamespaceRecord } from '../kube/decode/namespace.ts';
import { kubeStatus } from '../kube/error.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { ReflectorTimings } from '../kube/reflector.ts';
import { startReflector } from '../kube/reflector.ts';
import type { Log } from '../log.ts';

export interface PublisherOptions {
  readonly client: KubeClient;
  readonly namespaces: Collection<NamespaceRecord>;
  /** Undefined while there is no authority. */
  readonly roots: () => readonly string[] | undefined;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
}

export interface Publisher {
  /** The roots are others now. */
  rootsChanged(): void;
  close(): Promise<void>;
}

/** Keeps the ConfigMap with the mesh's roots in every namespace, as it is wanted, whoever changes or deletes it. */
export function startRootPublisher(options: PublisherOptions): Publisher {
  const { client, namespaces, roots, log } = options;
  // What is published, by namespace; undefined until the first list, before which nothing is written.
  let published: Map<string, string> | undefined;
  const reconciler = createReconciler({
    run: async (namespace) => {
      const record = namespaces.get(namespace);
      const wanted = roots()?.join('');
      const found = published?.get(namespace);
      if (record === undefined || record.meta.deleting) return;
      if (published === undefined || wanted === undefined || found === wanted) return;
      await publish(client, namespace, wanted, found !== undefined);
      published.set(namespace, wanted);
    },
    onError: (namespace, error) => {
      const object = `ConfigMap ${namespace}/${rootCertConfigMap}`;
      log.warn({ err: error, object }, 'roots not published; it is tried again');
    },
  });
  const all = (): void => {
    for (const [namespace] of namespaces.entries()) reconciler.enqueue(namespace);
  };
  namespaces.onChange((namespace) => reconciler.enqueue(namespace));
  const follow = (object: unknown, gone: boolean): void => {
    const meta = decodeMetadata(object);
    if (meta?.name !== rootCertConfigMap || published === undefined) return;
    if (gone) published.delete(meta.namespace);
    else published.set(meta.namespace, text(field(object, 'data', rootCertKey)));
    reconciler.enqueue(meta.namespace);
  };
  const reflector = startReflector({
    client,
    path: '/api/v1/configmaps',
    fieldSelector: `metadata.name=${rootCertConfigMap}`,
    ...(options.timings === undefined ? {} : { timings: options.timings }),
    sink: {
      replace: (objects) => {
        published = new Map();
        for (const object of objects) follow(object, false);
        all();
      },
      upsert: (object) => follow(object, false),
      remove: (object) => follow(object, true),
    },
    onFailure: (error, attempt) => log.debug({ err: error, attempt }, 'watch of ConfigMaps failed'),
  });
  return {
    rootsChanged: all,
    close: async () => {
      await reflector.close();
      await reconciler.close();
    },
  };
}

async function publish(
  client: KubeClient,
  namespace: string,
  roots: string,
  exists: boolean,
): Promise<void> {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`;
  const data = { [rootCertKey]: roots };
  const replace = () =>
    client.request({
      method: 'PATCH',
      path: `${collection}/${rootCertConfigMap}`,
      contentType: 'application/merge-patch+json',
      body: { data },
    });
  const create = () =>
    client.request({
      method: 'POST',
      path: collection,
      body: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: {
          name: rootCertConfigMap,
          namespace,
          labels: { 'istio.io/config': 'true' },
        },
        data,
      },
    });
  try {
    await (exists ? replace() : create());
  } catch (error) {
    const status = kubeStatus(error);
    // What was there is gone, or what was not there has come: the other call then fits.
    if (status === 404 && exists) await create();
    else if (status === 409 && !exists) await replace();
    else if (!isGoingAway(status)) throw error;
  }
}

/** The namespace is gone, or may no longer be written to because it is going. */
function isGoingAway(status: number): boolean {
  return status === 404;
}
