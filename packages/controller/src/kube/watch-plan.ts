/** Where objects of a kind are listed and watched: in one namespace, or without one in the whole cluster. */
export interface Place {
  /** Tells places of one kind apart. */
  readonly key: string;
  readonly namespace?: string;
  /** What of it is asked for; everything when absent. */
  readonly labelSelector?: string;
}

export const everywhere: Place = { key: '' };

/**
 * How many namespaces are watched each on its own. With more in scope the whole cluster is, and what is out of scope is
 * dropped as it comes. A watch is a connection of its own and costs the controller some 100 KiB, the API server as well.
 */
export interface NamespaceLimit {
  readonly most: number;
  /** Where the whole cluster is watched it goes on until no more are in scope than these: one more or less lists nothing anew. */
  readonly again: number;
}

/** Pods, and what is made for them: many objects that change all the time. Three kinds, so 60 watches at most. */
export const limitOfMany: NamespaceLimit = { most: 20, again: 15 };
/** What people write: few objects that seldom change. Seventeen kinds, so 85 watches at most, which a cluster's objects are worth. */
export const limitOfFew: NamespaceLimit = { most: 5, again: 3 };

/** Pure: whether too many namespaces are in scope to watch each; of all, where `namespaces` is undefined, nobody counts. */
export function isCrowded(
  namespaces: ReadonlySet<string> | undefined,
  { most, again }: NamespaceLimit,
  was: boolean,
): boolean {
  return namespaces !== undefined && namespaces.size > (was ? again : most);
}

/** Pure: where what is in scope is watched. */
export function placesOf(
  namespaces: ReadonlySet<string> | undefined,
  crowded: boolean,
): readonly Place[] {
  if (namespaces === undefined || crowded) return [everywhere];
  return [...namespaces].sort().map((namespace) => ({ key: namespace, namespace }));
}

/** A place that is watched now. */
export interface Running {
  readonly place: Place;
  /** `listed` once it has told all that it has; before that it is asked for it, and asked again where that failed. */
  readonly state: 'asking' | 'failing' | 'listed';
}

/** Of one kind no more first lists are taken at once: what each page weighs is in memory several times over. */
const maxAsking = 2;

export interface WatchPlan {
  readonly start: readonly Place[];
  /** Keys of places. */
  readonly stop: readonly string[];
}

/**
 * Pure: what to start and stop so that `wanted` is watched. What is held of a place stays known while it is handed over:
 * a watch ends once those that take its place have listed, but for that of a namespace which is out of scope. What has
 * no room to start is started by a later plan.
 */
export function planWatches(
  wanted: readonly Place[],
  running: ReadonlyMap<string, Running>,
): WatchPlan {
  const keys = new Set(wanted.map(({ key }) => key));
  const handedOver = wanted.every(({ key }) => running.get(key)?.state === 'listed');
  const isElsewhere = ({ namespace }: Place): boolean =>
    namespace !== undefined && wanted.every((one) => !overlap(one.namespace, namespace));
  const asking = [...running.values()].filter(({ state }) => state === 'asking').length;
  return {
    start: wanted.filter(({ key }) => !running.has(key)).slice(0, Math.max(0, maxAsking - asking)),
    stop: [...running.values()]
      .filter(({ place }) => !keys.has(place.key) && (handedOver || isElsewhere(place)))
      .map(({ place }) => place.key),
  };
}

/** Whether two places tell of the same objects. */
export function overlap(one: string | undefined, other: string | undefined): boolean {
  return one === undefined || other === undefined || one === other;
}

/** Path of a collection in a place. */
export function pathIn(place: Pick<Place, 'namespace'>, collection: string): string {
  if (place.namespace === undefined) return collection;
  const end = collection.lastIndexOf('/');
  return `${collection.slice(0, end)}/namespaces/${place.namespace}${collection.slice(end)}`;
}
