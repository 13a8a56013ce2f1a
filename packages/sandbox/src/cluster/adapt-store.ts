import type { ResourceStore } from '../apiserver/store.ts';
import type { KubeObject as ApiObject } from '../apiserver/object.ts';
import type { KubeObject } from './objects.ts';
import type { ClusterStore, ResourceType } from './store.ts';

/** The embedded API's store, typed by resource. Objects it hands out are frozen: `mutate` clones before it changes. */
export function adaptStore(store: ResourceStore): ClusterStore {
  // The API checks objects against their schemas before it keeps them; the types here name a part of those.
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller names the type that the resource stands for
  const out = <T extends KubeObject>(object: ApiObject): T => object as unknown as T;
  const into = (object: KubeObject): ApiObject => object as unknown as ApiObject;
  const scope = (namespace: string): string | undefined =>
    namespace === '' ? undefined : namespace;
  const attempt = <T>(work: () => T): Promise<T> => new Promise((resolve) => resolve(work()));
  return {
    get: <T extends KubeObject>(type: ResourceType<T>, namespace: string, name: string) =>
      attempt(() => {
        const found = store.get(type, scope(namespace), name);
        return found === undefined ? undefined : out<T>(found);
      }),
    list: <T extends KubeObject>(type: ResourceType<T>, options: { namespace?: string } = {}) =>
      attempt(() => store.list(type, options.namespace).items.map((item) => out<T>(item))),
    create: <T extends KubeObject>(type: ResourceType<T>, object: T) =>
      attempt(() => out<T>(store.create(type, into(object)))),
    update: <T extends KubeObject>(type: ResourceType<T>, object: T, subresource?: 'status') =>
      attempt(() => out<T>(store.update(type, into(object), { subresource }))),
    delete: (type, namespace, name, options) =>
      attempt(() => {
        store.delete(type, scope(namespace), name, options);
      }),
    observe: <T extends KubeObject>(
      type: ResourceType<T>,
      listener: (change: { kind: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }) => void,
    ) => {
      const watch = store.observe(type, (event) =>
        listener({ kind: event.type, object: out<T>(event.object) }),
      );
      return () => watch.close();
    },
  };
}
