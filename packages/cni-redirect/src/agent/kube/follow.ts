import type { KubeConfig, KubernetesListObject, KubernetesObject } from '@kubernetes/client-node';
import { Watch } from '@kubernetes/client-node';
import type { Logger } from '@ambit/core';
import { causeChain, createBackoff, messageOf } from '@ambit/core';

export interface FollowOptions<T extends KubernetesObject> {
  readonly config: KubeConfig;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly list: () => Promise<KubernetesListObject<T>>;
  /** All objects that exist; what is not among them is gone. */
  readonly onList: (objects: readonly T[]) => void;
  readonly onChange: (object: T) => void;
  readonly onDelete: (object: T) => void;
  readonly logger: Logger;
}

export interface Follower {
  readonly synced: Promise<void>;
  close(): void;
}

const watchSeconds = { min: 300, max: 600 } as const;
/** Bookmarks come every minute or so: longer silence means a watch that died without a word. */
const stallMs = 150_000;

/** Lists and watches one kind: relists when the watch cannot be resumed, and never stops trying. */
export function follow<T extends KubernetesObject>(options: FollowOptions<T>): Follower {
  const backoff = createBackoff(200, 10_000);
  const life = new AbortController();
  const isClosed = (): boolean => life.signal.aborted;
  let abort: AbortController | undefined;
  let told: () => void;
  const synced = new Promise<void>((resolve) => (told = resolve));

  const relist = async (): Promise<string> => {
    const { items, metadata } = await options.list();
    options.onList(items);
    told();
    return metadata?.resourceVersion ?? '';
  };
  const watchFrom = async (version: string): Promise<string | undefined> => {
    let last: string | undefined = version;
    let stall: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      const ended = (error?: unknown): void => {
        clearTimeout(stall);
        if (error === undefined || error === null || isClosed()) resolve();
        else reject(new Error(messageOf(error), { cause: error }));
      };
      const heard = (): void => {
        clearTimeout(stall);
        stall = setTimeout(() => abort?.abort(), stallMs);
      };
      heard();
      const onEvent = (phase: string, object: T & { code?: number }): void => {
        heard();
        backoff.reset();
        if (phase === 'ERROR') {
          last = undefined;
          abort?.abort();
          return;
        }
        last = object.metadata?.resourceVersion ?? last;
        if (phase === 'DELETED') options.onDelete(object);
        else if (phase !== 'BOOKMARK') options.onChange(object);
      };
      const watch = new Watch(options.config);
      // Private in 2.0 and 30 s: shorter than the pause between two bookmarks, so every quiet watch would break off.
      Object.assign(watch, { requestTimeoutMs: stallMs * 2 });
      watch
        .watch(options.path, watchQuery(options.query, version), onEvent, ended)
        .then((controller) => (abort = controller), ended);
    });
    return last;
  };
  const run = async (): Promise<void> => {
    let version: string | undefined;
    while (!isClosed()) {
      try {
        version ??= await relist();
        version = await watchFrom(version);
      } catch (error) {
        version = undefined;
        if (isClosed()) return;
        const waitMs = backoff.nextMs();
        options.logger.warn(
          { path: options.path, reason: causeChain(error), retryMs: Math.round(waitMs) },
          'watch broke off',
        );
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  };
  void run();
  return {
    synced,
    close() {
      life.abort();
      abort?.abort();
    },
  };
}

type Query = Record<string, string | number | boolean>;

function watchQuery(query: Readonly<Record<string, string>>, resourceVersion: string): Query {
  const seconds = watchSeconds.min + Math.random() * (watchSeconds.max - watchSeconds.min);
  const timeoutSeconds = Math.round(seconds);
  return { ...query, resourceVersion, allowWatchBookmarks: true, timeoutSeconds };
}
