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
  /** As many are watched at most; 500 when absent. */
  readonly maxWatched?: number;
}

export interface NamedWatches {
  /** Settles once each object that is named now has been read, or could not be. */
  settled(): Promise<void>;
  /** How many are named and not read, because too many are. */
  waiting(): number;
  close(): Promise<void>;
}

interface Watched {
  readonly users: Set<string>;
  /** Undefined for one that waits until there is room. */
  reflector: Reflector | undefined;
  readonly first: Promise<void>;
}

/** One watch for each object; what is named beyond that waits, and is told. */
const defaultMaxWatched = 500;

/** Watches exactly those Secrets or ConfigMaps that somebody names, each by its name, so that rights to those few are enough. */
export function startNamedWatches<U, R>(options: NamedWatchesOptions<U, R>): NamedWatches {
  const watched = new Map<string, Watched>();
  const namedBy = new Map<string, readonly string[]>();
  const closing = new Set<Promise<void>>();

  const max = options.maxWatched ?? defaultMaxWatched;
  const room = createRoom(options, max);

  const stop = (name: string, { reflector }: Watched): void => {
    watched.delete(name);
    options.into.delete(name);
    if (reflector === undefined) {
      room.leave(name);
      return;
    }
    const closed = reflector.close();
    closing.add(closed);
    void closed.finally(() => closing.delete(closed));
    const next = room.free();
    const waiting = next === undefined ? undefined : watched.get(next);
    if (next !== undefined && waiting !== undefined)
      waiting.reflector = startWatch(options, next, () => undefined);
  };
  const begin = (name: string, user: string): Watched => {
    const users = new Set([user]);
    if (!room.take(name)) return { users, reflector: undefined, first: Promise.resolve() };
    let settle: () => void = () => undefined;
    const first = new Promise<void>((resolve) => (settle = resolve));
    return { users, reflector: startWatch(options, name, settle), first };
  };
  const follow = (user: string, value: U | undefined): void => {
    const before = namedBy.get(user) ?? [];
    const names = value === undefined ? [] : [...new Set(options.namesOf(value))];
    if (names.length === 0) namedBy.delete(user);
    else namedBy.set(user, names);
    for (const name of before) {
      const known = watched.get(name);
      if (known === undefined || names.includes(name)) continue;
      known.users.delete(user);
      if (known.users.size === 0) stop(name, known);
    }
    for (const name of names) {
      const known = watched.get(name);
      if (known === undefined) watched.set(name, begin(name, user));
      else known.users.add(user);
    }
  };
  options.users.onChange(follow);
  return {
    settled: async () => {
      await Promise.all([...watched.values()].map(({ first }) => first));
    },
    waiting: () => room.waiting(),
    close: async () => {
      // Those that wait first, lest they begin.
      const all = [...watched];
      for (const [name, one] of all) if (one.reflector === undefined) stop(name, one);
      for (const [name, one] of all) if (watched.has(name)) stop(name, one);
      await Promise.all(closing);
    },
  };
}

interface Room {
  /** False where there is none: the name waits. */
  take(name: string): boolean;
  leave(name: string): void;
  /** One that was watched is so no more; the name that is watched in its stead. */
  free(): string | undefined;
  waiting(): number;
}

/** Who is watched, and who waits for it, in the order in which they were named. */
function createRoom<U, R>(
  { what, into, log, onChange }: NamedWatchesOptions<U, R>,
  max: number,
): Room {
  const waiting = new Set<string>();
  let taken = 0;
  const leave = (name: string): void => {
    if (waiting.delete(name) && waiting.size === 0)
      log.info({ kind: what.kind }, 'all that are named are read again');
  };
  return {
    take: (name) => {
      if (taken < max) {
        taken += 1;
        return true;
      }
      if (waiting.size === 0)
        log.error(
          { object: `${what.kind} ${name}`, max },
          `more ${what.kind}s are named than are read; the rest waits until others are named no more`,
        );
      waiting.add(name);
      const why = `${max} ${what.kind}s are named before it, and no more are read; name fewer`;
      // Not within the change that has named it.
      queueMicrotask(() => {
        if (!waiting.has(name)) return;
        into.set(name, { kind: 'unreadable', why });
        onChange();
      });
      return false;
    },
    leave,
    free: () => {
      const [next] = waiting;
      if (next === undefined) taken -= 1;
      else leave(next);
      return next;
    },
    waiting: () => waiting.size,
  };
}

function startWatch<U, R>(
  options: NamedWatchesOptions<U, R>,
  key: string,
  settle: () => void,
): Reflector {
  const { into, log, what, decode } = options;
  const [namespace = '', name = ''] = key.split('/');
  const put = (record: R | Unread): void => {
    into.set(key, record);
    settle();
    options.onChange();
  };
  const isIt = (object: unknown): boolean => text(field(object, 'metadata', 'name')) === name;
  return startReflector({
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
}
