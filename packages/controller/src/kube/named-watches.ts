import type { Collection, ReadableCollection } from '../collections/collection.ts';
import type { Log } from '../log.ts';
import type { KubeClient } from './client.ts';
import { field, text } from './decode/fields.ts';
import { kubeStatus } from './error.ts';
import type { Reflector, ReflectorTimings } from './reflector.ts';
import { startReflector, wholeList } from './reflector.ts';

/** What is known of an object that could not be read. */
export type Unread =
  | { readonly kind: 'missing' }
  /** `why` is for its owner, and never from its content. */
  | { readonly kind: 'unreadable'; readonly why: string };

export interface NamedWatchesOptions<U, R> {
  readonly what: { readonly plural: 'secrets' | 'configmaps'; readonly kind: string };
  readonly decode: (object: unknown) => R;
  readonly client: KubeClient;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
  /** Who names objects, and which: `<namespace>/<name>`. */
  readonly users: ReadableCollection<U>;
  readonly namesOf: (user: U) => readonly string[];
  readonly into: Collection<R | Unread>;
  readonly onChange: () => void;
}

export interface NamedWatches {
  /** Settles once each object that is named now has been read, or could not be. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

interface Watched {
  readonly users: Set<string>;
  readonly reflector: Reflector | undefined;
  readonly first: Promise<void>;
}

/** One watch for each object; whoever names more gets no more. */
const maxWatched = 500;

/** Watches exactly those Secrets or ConfigMaps that somebody names, each by its name, so that rights to those few are enough. */
export function startNamedWatches<U, R>(options: NamedWatchesOptions<U, R>): NamedWatches {
  const watched = new Map<string, Watched>();
  const namedBy = new Map<string, readonly string[]>();
  const closing = new Set<Promise<void>>();

  const stop = (name: string, { reflector }: Watched): void => {
    watched.delete(name);
    options.into.delete(name);
    if (reflector === undefined) return;
    const closed = reflector.close();
    closing.add(closed);
    void closed.finally(() => closing.delete(closed));
  };
  const follow = (user: string, value: U | undefined): void => {
    const before = namedBy.get(user) ?? [];
    const names = value === undefined ? [] : [...new Set(options.namesOf(value))];
    if (names.length === 0) namedBy.delete(user);
    else namedBy.set(user, names);
    for (const name of names) {
      const known = watched.get(name);
      if (known === undefined)
        watched.set(name, { ...startWatch(options, name, watched.size), users: new Set([user]) });
      else known.users.add(user);
    }
    for (const name of before) {
      const known = watched.get(name);
      if (known === undefined || names.includes(name)) continue;
      known.users.delete(user);
      if (known.users.size === 0) stop(name, known);
    }
  };
  options.users.onChange(follow);
  return {
    settled: async () => {
      await Promise.all([...watched.values()].map(({ first }) => first));
    },
    close: async () => {
      for (const [name, one] of [...watched]) stop(name, one);
      await Promise.all(closing);
    },
  };
}

function startWatch<U, R>(
  options: NamedWatchesOptions<U, R>,
  key: string,
  others: number,
): Omit<Watched, 'users'> {
  const { into, log, what, decode } = options;
  const [namespace = '', name = ''] = key.split('/');
  let settle: () => void = () => undefined;
  const first = new Promise<void>((resolve) => (settle = resolve));
  const put = (record: R | Unread): void => {
    into.set(key, record);
    settle();
    options.onChange();
  };
  if (others >= maxWatched) {
    queueMicrotask(() =>
      put({ kind: 'unreadable', why: `more than ${maxWatched} ${what.plural} are named` }),
    );
    return { reflector: undefined, first };
  }
  const isIt = (object: unknown): boolean => text(field(object, 'metadata', 'name')) === name;
  const reflector = startReflector({
    client: options.client,
    path: `/api/v1/namespaces/${namespace}/${what.plural}`,
    fieldSelector: `metadata.name=${name}`,
    ...(options.timings === undefined ? {} : { timings: options.timings }),
    sink: {
      list: wholeList((objects) => {
        const object = objects.find(isIt);
        put(object === undefined ? { kind: 'missing' } : decode(object));
      }),
      upsert: (object) => {
        if (isIt(object)) put(decode(object));
      },
      remove: (object) => {
        if (isIt(object)) put({ kind: 'missing' });
      },
    },
    onFailure: (error, attempt) => {
      const status = kubeStatus(error);
      if (attempt > 2 || status === 403)
        log.warn(
          { object: `${what.kind} ${key}`, status, attempt },
          'what is named cannot be watched',
        );
      // Where the API is away what was read before stays; where it is forbidden nothing does.
      if (status === 403)
        put({ kind: 'unreadable', why: 'the controller has no right to list and watch it' });
      else if (into.get(key) === undefined)
        put({ kind: 'unreadable', why: 'the API could not be asked' });
    },
  });
  return { reflector, first };
}
