import { rootCertConfigMap, rootCertKey } from '@ambit/api';

import type { Sources } from '../collections/sources.ts';
import type { KubeClient } from '../kube/client.ts';
import { decodeMetadata, field, text } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { ReflectorTimings } from '../kube/reflector.ts';
import { startReflector, wholeList } from '../kube/reflector.ts';
import type { Scope } from '../kube/scope.ts';
import type { Log } from '../log.ts';

export interface PublisherOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly sources: Pick<Sources, 'namespaces'>;
  readonly scope: Scope;
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

/** Keeps the ConfigMap with the mesh's roots in every namespace that is in scope, as it is wanted, whoever changes or deletes it. */
export function startRootPublisher(options: PublisherOptions): Publisher {
  const { client, gate, scope, roots, log } = options;
  const { namespaces } = options.sources;
  // What is published, by namespace; undefined until the first list, before which nothing is written.
  let published: Map<string, Published> | undefined;
  const reconciler = createReconciler({
    gate,
    run: async (namespace) => {
      const record = namespaces.get(namespace);
      const wanted = roots()?.join('');
      const found = published?.get(namespace);
      if (record === undefined || record.meta.deleting || !scope.includes(namespace)) return;
      if (published === undefined || wanted === undefined || found?.roots === wanted) return;
      const stands = await publish(client, namespace, wanted, found?.resourceVersion);
      // Of one that was changed meanwhile the watch tells, or has told already, which is newer.
      if (stands !== undefined && published.get(namespace) === found)
        published.set(namespace, stands);
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
  scope.onChange(all);
  const follow = (object: unknown, gone: boolean): void => {
    const meta = decodeMetadata(object);
    if (meta?.name !== rootCertConfigMap || published === undefined) return;
    if (gone) published.delete(meta.namespace);
    else published.set(meta.namespace, readPublished(object));
    reconciler.enqueue(meta.namespace);
  };
  const reflector = startReflector({
    client,
    path: '/api/v1/configmaps',
    fieldSelector: `metadata.name=${rootCertConfigMap}`,
    ...(options.timings === undefined ? {} : { timings: options.timings }),
    sink: {
      list: wholeList((objects) => {
        published = new Map();
        for (const object of objects) follow(object, false);
        all();
      }),
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

interface Published {
  readonly roots: string;
  readonly resourceVersion: string;
}

function readPublished(object: unknown): Published {
  return {
    roots: text(field(object, 'data', rootCertKey)),
    resourceVersion: text(field(object, 'metadata', 'resourceVersion')),
  };
}

/** Changes exactly the version that was seen; undefined where that is no more what stands there. */
async function publish(
  client: KubeClient,
  namespace: string,
  roots: string,
  seen: string | undefined,
): Promise<Published | undefined> {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`;
  const data = { [rootCertKey]: roots };
  const replace = () =>
    client.request({
      method: 'PATCH',
      path: `${collection}/${rootCertConfigMap}`,
      contentType: 'application/merge-patch+json',
      body: { metadata: { resourceVersion: seen }, data },
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
    return readPublished(await (seen === undefined ? create() : replace()));
  } catch (error) {
    const status = kubeStatus(error);
    // It has come, has gone or has been changed meanwhile, or its namespace is going: the next event tells.
    if (status !== 404 && status !== 409) throw error;
    return undefined;
  }
}
