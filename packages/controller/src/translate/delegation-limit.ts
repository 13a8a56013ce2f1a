import type { HttpMatchSpec, HttpRouteSpec } from '../resources/virtual-service.ts';
import { forMesh } from './virtual-service-match.ts';

/**
 * What all delegates of one VirtualService may add to it. Each delegating route has all of its delegate's routes, and each
 * of its matches is combined with each of theirs: two small objects could ask for more than any controller can hold.
 */
export interface DelegationBudget {
  routes: number;
  /** Matches and what they compare, once combined. */
  parts: number;
}

const maxRoutes = 4096;
const maxMatches = 4096;
const maxParts = 131_072;

export function delegationBudget(): DelegationBudget {
  return { routes: maxRoutes, parts: maxParts };
}

/** What one delegation takes from the budget. Why it may not, where it would take more than is left; then it takes nothing. */
export function spend(
  budget: DelegationBudget,
  { match = [] }: Pick<HttpRouteSpec, 'match'>,
  routes: readonly HttpRouteSpec[],
): string | undefined {
  if (routes.length > budget.routes)
    return `delegates would add more than ${maxRoutes} routes to the VirtualService; delegate from fewer routes`;
  const outer = sizeOf(match);
  let parts = 0;
  for (const route of routes) {
    const inner = sizeOf(route.match ?? []);
    if (outer.matches * inner.matches > maxMatches)
      return `the match, combined with that of a route of the delegate, is more than ${maxMatches} matches; split one of the two`;
    parts += outer.parts * inner.matches + inner.parts * outer.matches;
  }
  if (parts > budget.parts)
    return `delegates would add more than ${maxParts} conditions to the VirtualService; delegate from fewer routes`;
  budget.routes -= routes.length;
  budget.parts -= parts;
  return undefined;
}

function sizeOf(matches: readonly HttpMatchSpec[]): { matches: number; parts: number } {
  const own = matches.filter(({ gateways }) => forMesh(gateways));
  const parts = own.reduce((sum, one) => sum + partsOf(one), 0);
  return { matches: Math.max(1, own.length), parts: Math.max(1, parts) };
}

function partsOf({ headers, withoutHeaders, queryParams, sourceLabels }: HttpMatchSpec): number {
  return [headers, withoutHeaders, queryParams, sourceLabels].reduce(
    (sum, one) => sum + Object.keys(one ?? {}).length,
    1,
  );
}

type ReadDelegate = (namespace: string, name: string) => readonly HttpRouteSpec[] | undefined;

/** Why a root leaves out a delegate, `<namespace>/<name>`, where it would make too much of it. */
export function leftOut(
  root: { readonly namespace: string; readonly http: readonly HttpRouteSpec[] },
  delegate: string,
  read: ReadDelegate,
): string | undefined {
  const budget = delegationBudget();
  for (const route of root.http) {
    if (route.delegate === undefined) continue;
    const { namespace = root.namespace, name = '' } = route.delegate;
    const why = spend(budget, route, read(namespace, name) ?? []);
    if (why !== undefined && `${namespace}/${name}` === delegate) return why;
  }
  return undefined;
}
