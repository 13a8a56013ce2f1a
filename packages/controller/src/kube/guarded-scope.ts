import type { Scope } from './scope.ts';

/** A kind of which what is served may not be without: policies, Gateways, routes. */
export interface Guard {
  readonly kind: string;
  /** Whether all that is in a namespace, or without one in the whole cluster, was read since it came into scope. */
  knows(namespace?: string): boolean;
}

/** Namespaces in scope that are not taken in yet; `undefined` stands for the rest of the cluster. */
export interface Waiting {
  readonly namespaces: readonly (string | undefined)[];
  /** The kinds that they wait for. */
  readonly kinds: readonly string[];
}

/**
 * A scope that takes in a namespace only once every guard knows it, so that no workload is served before the policies
 * that hold for it. What goes out of scope is out at once.
 */
export interface GuardedScope extends Omit<Scope, 'onChange'> {
  /** All that is in scope now is: nothing is served before everything was read once. */
  begin(): void;
  /** The scope is another, or a guard has read more. True when that has changed something. */
  look(): boolean;
  waiting(): Waiting;
}

type Taken = ReadonlySet<string> | undefined;

export function guardScope(
  scope: Pick<Scope, 'includes' | 'namespaces'>,
  guards: () => readonly Guard[],
): GuardedScope {
  let begun = false;
  /** All of them where undefined. */
  let taken: Taken;
  const isTaken = (namespace: string): boolean => taken === undefined || taken.has(namespace);
  const isKnown = (namespace?: string): boolean =>
    guards().every((guard) => guard.knows(namespace));
  const next = (): Taken => {
    const wanted = scope.namespaces();
    if (wanted === undefined) return taken === undefined || isKnown() ? undefined : taken;
    return new Set([...wanted].filter((name) => isTaken(name) || isKnown(name)));
  };
  const missing = (): readonly (string | undefined)[] => {
    if (!begun || taken === undefined) return [];
    const wanted = scope.namespaces();
    return wanted === undefined ? [undefined] : [...wanted].filter((name) => !isTaken(name));
  };
  return {
    includes: (namespace) => scope.includes(namespace) && isTaken(namespace),
    namespaces: () => taken,
    begin: () => {
      if (begun) return;
      begun = true;
      taken = scope.namespaces();
    },
    look: () => {
      if (!begun) return false;
      const before = taken;
      taken = next();
      return !isSame(before, taken);
    },
    waiting: () => {
      const namespaces = missing();
      const holding = guards().filter((guard) => namespaces.some((name) => !guard.knows(name)));
      return { namespaces, kinds: holding.map(({ kind }) => kind) };
    },
  };
}

function isSame(one: Taken, other: Taken): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one.size === other.size && [...one].every((name) => other.has(name));
}

/** What does not come in within this is told, and again as often as this. */
export const tellWaitingMs = 5_000;

/** Tells for as long as something waits; without anything it holds no timer. */
export function tellWaiting(
  waiting: () => Waiting,
  tell: (waiting: Waiting) => void,
  everyMs = tellWaitingMs,
): { look(): void; close(): void } {
  let timer: NodeJS.Timeout | undefined;
  const close = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  const look = (): void => {
    if (waiting().namespaces.length === 0) {
      close();
      return;
    }
    timer ??= setTimeout(() => {
      timer = undefined;
      const now = waiting();
      if (now.namespaces.length > 0) tell(now);
      look();
    }, everyMs).unref();
  };
  return { look, close };
}
