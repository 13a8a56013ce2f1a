import type {
  HttpMatch,
  HttpRoute,
  LabelPairs,
  NamedMatch,
  Port,
  SourceMatch,
  StringMatch,
} from '@ambit/api';
import { PrefixIndex } from '@ambit/core';
import type { HeaderList } from '../http/headers.ts';
import { requestField } from '../http/request-field.ts';
import { matchesWhole } from './regex.ts';

/** What routes may ask of a request. */
export interface RouteFacts {
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  /** Without the query. */
  readonly path: string;
  readonly query: string;
  readonly headers: HeaderList;
  readonly upgrade?: string | undefined;
  readonly port: Port;
  readonly sourceNamespace: string | undefined;
  readonly sourceLabels: LabelPairs;
}

export function stringMatches(match: StringMatch, value: string): boolean {
  switch (match.kind) {
    case 'exact':
      return value === match.value;
    case 'prefix':
      return value.startsWith(match.value);
    case 'path-prefix':
      return pathPrefixMatches(match.value, value);
    case 'regex':
      return matchesWhole(match.value, value);
    case 'present':
      return true;
  }
}

/** By whole segments: `/a` and `/a/` match `/a`, `/a/` and `/a/b`, not `/ab`. */
function pathPrefixMatches(prefix: string, path: string): boolean {
  const whole = withoutSlash(prefix);
  if (!path.startsWith(whole)) return false;
  return path.length === whole.length || path[whole.length] === '/';
}

export function sourceMatches(match: SourceMatch, facts: Omit<SourceFacts, never>): boolean {
  if (match.port !== undefined && match.port !== facts.port) return false;
  if (match.sourceNamespace !== undefined && match.sourceNamespace !== facts.sourceNamespace) {
    return false;
  }
  return match.sourceLabels.every(([name, value]) =>
    facts.sourceLabels.some(([own, is]) => own === name && is === value),
  );
}

export type SourceFacts = Pick<RouteFacts, 'port' | 'sourceNamespace' | 'sourceLabels'>;

export function httpMatches(match: HttpMatch, facts: RouteFacts): boolean {
  if (!sourceMatches(match, facts)) return false;
  const { path, scheme, method, authority } = match;
  if (path !== undefined && !pathMatches(path, match.ignorePathCase, facts.path)) return false;
  if (scheme !== undefined && !stringMatches(scheme, facts.scheme)) return false;
  if (method !== undefined && !stringMatches(method, facts.method)) return false;
  if (authority !== undefined && !authorityMatches(authority, facts.authority)) return false;
  if (!match.headers.every((one) => headerMatches(one, facts))) return false;
  if (match.withoutHeaders.some((one) => headerMatches(one, facts))) return false;
  return match.query.length === 0 || queryMatches(match.query, facts.query);
}

function pathMatches(match: StringMatch, ignoreCase: boolean, path: string): boolean {
  if (!ignoreCase || match.kind === 'regex' || match.kind === 'present') {
    return stringMatches(match, path);
  }
  return stringMatches({ kind: match.kind, value: match.value.toLowerCase() }, path.toLowerCase());
}

/** With or without the port, as owners write either. */
function authorityMatches(match: StringMatch, authority: string): boolean {
  if (stringMatches(match, authority)) return true;
  const host = authority.replace(/:\d{1,5}$/, '');
  return host !== authority && stringMatches(match, host);
}

function headerMatches({ name, match }: NamedMatch, facts: RouteFacts): boolean {
  const { path, query } = facts;
  const target = name === ':path' && query !== '' ? `${path}?${query}` : path;
  const values = requestField(facts, target, name);
  if (values.length === 0) return false;
  return match.kind === 'present' || stringMatches(match, values.join(','));
}

function queryMatches(matches: readonly NamedMatch[], query: string): boolean {
  const parameters = new URLSearchParams(query);
  return matches.every(({ name, match }) => {
    const value = parameters.get(name);
    return value !== null && (match.kind === 'present' || stringMatches(match, value));
  });
}

interface Candidate {
  readonly order: number;
  readonly route: HttpRoute;
  readonly match: HttpMatch | undefined;
}

/**
 * The routes of one table, first match first. Most matches name a path: those are found by the path, so that the cost
 * of a request does not grow with the number of routes.
 */
export class RouteIndex {
  readonly #paths: PrefixIndex<Candidate>;
  readonly #others: Candidate[] = [];
  readonly empty: boolean;

  constructor(routes: readonly HttpRoute[]) {
    this.empty = routes.length === 0;
    const byPath: { value: string; kind: 'exact' | 'prefix'; item: Candidate }[] = [];
    let order = 0;
    for (const route of routes) {
      for (const match of route.matches.length === 0 ? [undefined] : route.matches) {
        const item = { order: order++, route, match };
        const path = match?.ignorePathCase === true ? undefined : match?.path;
        if (path?.kind === 'exact' || path?.kind === 'prefix') {
          byPath.push({ value: path.value, kind: path.kind, item });
        } else if (path?.kind === 'path-prefix') {
          byPath.push({ value: withoutSlash(path.value), kind: 'prefix', item });
        } else this.#others.push(item);
      }
    }
    this.#paths = new PrefixIndex(byPath);
  }

  find(
    facts: RouteFacts,
  ): { readonly route: HttpRoute; readonly match: HttpMatch | undefined } | undefined {
    const found = this.#first(facts, none);
    return found?.route.unsure === true ? this.#surer(found, facts) : found;
  }

  /**
   * What an unsure route takes is left to other objects, each of which is heard as if the objects before it were not
   * there. What is theirs by default only (nobody's object) is not a reason to let the request past the unsure route.
   */
  #surer(unsure: Candidate, facts: RouteFacts): Candidate {
    const passed = new Set([objectOf(unsure.route)]);
    for (;;) {
      const next = this.#first(facts, passed);
      const object = next && objectOf(next.route);
      if (next === undefined || object === undefined) return unsure;
      if (next.route.unsure !== true) return next;
      passed.add(object);
    }
  }

  #first(facts: RouteFacts, passed: ReadonlySet<string | undefined>): Candidate | undefined {
    let best: Candidate | undefined;
    const look = (candidates: readonly Candidate[]): void => {
      for (const candidate of candidates) {
        if (best !== undefined && candidate.order > best.order) return;
        if (passed.size > 0 && passed.has(objectOf(candidate.route))) continue;
        if (candidate.match === undefined || httpMatches(candidate.match, facts)) {
          best = candidate;
          return;
        }
      }
    };
    this.#paths.visit(facts.path, look);
    look(this.#others);
    return best;
  }
}

const none: ReadonlySet<string | undefined> = new Set();
const nameForm = /^((?:VirtualService|[A-Z]+Route)\/[^/]+\/[^/]+)(?:\/|$)/;

/** `<kind>/<namespace>/<name>` of the object that wrote the route; undefined for one that stands there by default. */
function objectOf({ name, object }: HttpRoute): string | undefined {
  return object ?? nameForm.exec(name)?.[1];
}

function withoutSlash(prefix: string): string {
  return prefix.endsWith('/') ? prefix.slice(0, -1) : prefix;
}
