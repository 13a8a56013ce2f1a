import type { ServiceKey } from '@ambit/api';

import { selects } from '../translate/selector.ts';
import type { ReadableCollection } from './collection.ts';
import type { Dependant, Readable } from './edges.ts';

/** How values of a collection are found by something that they match, and not by a key. */
export interface Matching<V, P> {
  /** The values that are asked for together, such as those of a namespace; undefined for one that matches nothing. */
  readonly scope: (value: V) => string | undefined;
  /** Values that may match what is asked for share one of these with it: so not every value is looked at. */
  readonly hints: (value: V) => Iterable<string>;
  readonly hintsOf: (asked: P) => Iterable<string>;
  readonly matches: (value: V, asked: P) => boolean;
}

/** What somebody asked for. */
export interface Asked<P> {
  readonly scope: string;
  readonly what: P;
  readonly reader: Dependant;
}

interface Scope<V, P> {
  readonly hinted: Map<string, Hinted<V>>;
  readonly asked: Set<Asked<P>>;
}

/** The values of one hint, and the same in the order of their keys once somebody has asked. */
interface Hinted<V> {
  readonly values: Map<string, V>;
  ordered: readonly (readonly [string, V])[] | undefined;
}

/**
 * Finds the values of a collection that match something. Who asks depends on those alone that do: a value that comes,
 * changes or goes is held against what was asked for, which is quicker than to ask again.
 */
export class Matches<V, P> implements Readable<Asked<P>> {
  readonly #how: Matching<V, P>;
  readonly #values = new Map<string, V>();
  readonly #scopes = new Map<string, Scope<V, P>>();

  constructor(values: ReadableCollection<V>, how: Matching<V, P>) {
    this.#how = how;
    values.onChange((key, value) => this.#changed(key, value));
    for (const [key, value] of values.entries()) this.#changed(key, value);
  }

  /** In the order of their keys. */
  find(scope: string, what: P): readonly V[] {
    const hinted = this.#scopes.get(scope)?.hinted;
    if (hinted === undefined || hinted.size === 0) return [];
    const found: (readonly [string, V])[][] = [];
    for (const hint of this.#how.hintsOf(what)) {
      const one = hinted.get(hint);
      if (one === undefined) continue;
      const matching = inOrder(one).filter(([, value]) => this.#how.matches(value, what));
      if (matching.length > 0) found.push(matching);
    }
    const [first = [], ...others] = found;
    if (others.length === 0) return first.map(([, value]) => value);
    return [...new Map(found.flat())].sort(byKey).map(([, value]) => value);
  }

  /** As `find`; `reader` is told of every change of a value that matches, or did. */
  read(scope: string, what: P, reader: Dependant): readonly [readonly V[], Asked<P>] {
    const asked = { scope, what, reader };
    this.#scope(scope).asked.add(asked);
    return [this.find(scope, what), asked];
  }

  untrack(asked: Asked<P>): void {
    const scope = this.#scopes.get(asked.scope);
    scope?.asked.delete(asked);
    this.#forget(asked.scope);
  }

  #changed(key: string, value: V | undefined): void {
    const before = this.#values.get(key);
    const name = value === undefined ? undefined : this.#how.scope(value);
    if (before !== undefined) this.#remove(key, before);
    if (value === undefined || name === undefined) {
      this.#values.delete(key);
      return;
    }
    this.#values.set(key, value);
    const scope = this.#scope(name);
    for (const hint of this.#how.hints(value)) {
      const known = scope.hinted.get(hint) ?? { values: new Map<string, V>(), ordered: undefined };
      if (known.values.size === 0) scope.hinted.set(hint, known);
      known.values.set(key, value);
      known.ordered = undefined;
    }
    this.#tell(scope, value);
  }

  #remove(key: string, value: V): void {
    const name = this.#how.scope(value) ?? '';
    const scope = this.#scope(name);
    for (const hint of this.#how.hints(value)) {
      const known = scope.hinted.get(hint);
      if (known === undefined) continue;
      known.values.delete(key);
      known.ordered = undefined;
      if (known.values.size === 0) scope.hinted.delete(hint);
    }
    this.#tell(scope, value);
    this.#forget(name);
  }

  #tell({ asked }: Scope<V, P>, value: V): void {
    for (const { what, reader } of asked) if (this.#how.matches(value, what)) reader.invalidate();
  }

  #scope(name: string): Scope<V, P> {
    const known = this.#scopes.get(name);
    if (known !== undefined) return known;
    const scope: Scope<V, P> = { hinted: new Map(), asked: new Set() };
    this.#scopes.set(name, scope);
    return scope;
  }

  #forget(name: string): void {
    const scope = this.#scopes.get(name);
    if (scope?.asked.size === 0 && scope.hinted.size === 0) this.#scopes.delete(name);
  }
}

function inOrder<V>(hinted: Hinted<V>): readonly (readonly [string, V])[] {
  hinted.ordered ??= [...hinted.values].sort(byKey);
  return hinted.ordered;
}

function byKey([left]: readonly [string, unknown], [right]: readonly [string, unknown]): number {
  return left < right ? -1 : 1;
}

export type Labels = ReadonlyMap<string, string>;

/** Values that select by labels, found by labels. An empty selector selects all. */
export function bySelector<V>(of: {
  readonly scope: (value: V) => string | undefined;
  readonly selector: (value: V) => Labels;
}): Matching<V, Labels> {
  return {
    scope: of.scope,
    hints: (value) => [hintOf(of.selector(value))],
    hintsOf: function* (labels) {
      yield '';
      for (const [name, value] of labels) yield `${name}=${value}`;
    },
    matches: (value, labels) => selects(of.selector(value), labels),
  };
}

/** Values that have labels, found by what selects them. */
export function byLabels<V>(of: {
  readonly scope: (value: V) => string | undefined;
  readonly labels: (value: V) => Labels;
}): Matching<V, Labels> {
  return {
    scope: of.scope,
    hints: function* (value) {
      yield '';
      for (const [name, label] of of.labels(value)) yield `${name}=${label}`;
    },
    hintsOf: (selector) => [hintOf(selector)],
    matches: (value, selector) => selects(selector, of.labels(value)),
  };
}

/** Values whose wildcards cover services, found by a service. */
export function byEnding<V>(of: {
  readonly scope: (value: V) => string | undefined;
  readonly endings: (value: V) => readonly string[];
}): Matching<V, ServiceKey> {
  return {
    scope: of.scope,
    hints: of.endings,
    hintsOf: function* (service) {
      const from = service.indexOf('/') + 1;
      for (let at = from; at <= service.length; at += 1) yield service.slice(at);
    },
    matches: (value, service) => {
      const hostname = service.slice(service.indexOf('/') + 1);
      return of.endings(value).some((one) => hostname.endsWith(one));
    },
  };
}

/** Of a selector the label that tells most: one that names an application before one that names a version or a tier. */
function hintOf(selector: Labels): string {
  const names = [...selector.keys()].sort();
  const name = names.find((one) => telling.has(one)) ?? names[0];
  return name === undefined ? '' : `${name}=${selector.get(name) ?? ''}`;
}

const telling: ReadonlySet<string> = new Set([
  'app',
  'app.kubernetes.io/instance',
  'app.kubernetes.io/name',
  'k8s-app',
]);
