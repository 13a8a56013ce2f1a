import type { HttpRoute, TcpMatch, TcpRoute, TlsRoute, WeightedTarget } from '@ambit/api';
import { noChanges } from '@ambit/api';

import type { Metadata, Problem } from '../kube/decode/fields.ts';
import type {
  ConnectionRuleSpec,
  GrpcRouteSpec,
  HttpFilterSpec,
  HttpRouteSpec,
  ParentRefSpec,
  TcpRouteSpec,
  TlsRouteSpec,
} from '../resources/gateway-api.ts';
import type { BrokenRoute } from './gateway-broken.ts';
import type { FilteredBackendRef } from './gateway-backend.ts';
import { compileTargets } from './gateway-backend.ts';
import type { GatewayRouteKind, RouteWorld } from './gateway-compilation.ts';
import { Compilation, quoted } from './gateway-compilation.ts';
import type { ParentOutcome } from './gateway-parent.ts';
import { isGateway, isMeshParent, onlyService, parentOutcome } from './gateway-parent.ts';
import type { CompiledFilters } from './gateway-filter.ts';
import { compileAction, compileBackendChanges, compileFilters } from './gateway-filter.ts';
import type { CompiledMatch } from './gateway-match.ts';
import { compileGrpcMatch, compileHttpMatch } from './gateway-match.ts';
import type { TryRules } from './gateway-retry.ts';
import { compileTries } from './gateway-retry.ts';

export type { GatewayRouteKind, ParentCondition, RouteWorld } from './gateway-compilation.ts';
export type { ParentOutcome } from './gateway-parent.ts';

/** A route of the Gateway API whose spec keeps its schema. */
export interface GatewayRouteRecord<S> {
  readonly meta: Metadata;
  readonly kind: GatewayRouteKind;
  readonly spec: S;
}

export type AnyGatewayRoute =
  | (GatewayRouteRecord<HttpRouteSpec> & { readonly kind: 'HTTPRoute' })
  | (GatewayRouteRecord<GrpcRouteSpec> & { readonly kind: 'GRPCRoute' })
  | (GatewayRouteRecord<TcpRouteSpec> & { readonly kind: 'TCPRoute' })
  | (GatewayRouteRecord<TlsRouteSpec> & { readonly kind: 'TLSRoute' });

/** The numbers by which matches are ordered, before the age and the names of their routes. */
export interface MatchOrder {
  readonly kind: 'GRPCRoute' | 'HTTPRoute';
  /** The first number that differs decides, and the larger one wins. */
  readonly precedence: readonly number[];
  /** Positions within the route: the first one wins. */
  readonly rule: number;
  readonly match: number;
}

/** An HTTP route for one match of one rule. */
export interface OrderedHttpRoute {
  readonly route: HttpRoute;
  readonly order: MatchOrder;
}

export interface CompiledGatewayRoute {
  /** `<kind>/<namespace>/<name>`. */
  readonly name: string;
  /** Those that are this mesh's to judge; none when the route is another controller's. */
  readonly parents: readonly ParentOutcome[];
  /** Without port and namespace of the client, which are the parents' to say. */
  readonly http: readonly OrderedHttpRoute[];
  readonly tcp: readonly TcpRoute[];
  /** One for each name. */
  readonly tls: readonly TlsRoute[];
  readonly problems: readonly Problem[];
}

type Routes = Pick<CompiledGatewayRoute, 'http' | 'tcp' | 'tls'>;

const noRoutes: Routes = { http: [], tcp: [], tls: [] };

/**
 * A route of the Gateway API that is attached to Services, as GEP-1426 has it. What cannot be done as written answers
 * errors where it matters: a rule whose filter is refused, what a match that makes no sense may have meant, the share
 * of a backend that cannot be found. Routes of Gateways that are no waypoints are nothing to this function.
 */
export function compileGatewayRoute(
  record: AnyGatewayRoute,
  world: RouteWorld,
  broken?: BrokenRoute,
): CompiledGatewayRoute {
  const { meta, kind, spec } = record;
  const compilation = new Compilation(kind, meta, world);
  for (const { field, message } of broken?.problems ?? []) compilation.refuse(field, message);
  const { name } = compilation;
  const written = spec.parentRefs ?? [];
  const refs = written.filter((ref, index) =>
    isMeshParent(ref, `spec.parentRefs[${index}]`, compilation),
  );
  if (refs.length === 0) {
    return { name, parents: [], ...noRoutes, problems: compilation.problems };
  }
  const hostnames = 'hostnames' in spec ? (spec.hostnames ?? []) : [];
  if (kind !== 'TLSRoute' && hostnames.length > 0 && !refs.every(isGateway)) {
    compilation.note('spec.hostnames', 'is for Gateways; of a Service every request is meant');
  }
  if (spec.useDefaultGateways !== undefined) {
    compilation.note('spec.useDefaultGateways', 'attaches to Gateways, which take no routes yet');
  }
  noteRepeatedNames(spec.rules ?? [], compilation);
  compilation.onlyParent = onlyService(refs, meta.namespace);
  const routes = compileRules(record, compilation, broken);
  const parents = refs.map((ref) => parentOutcome(ref, compilation, hostnames));
  // Where references cannot be read nobody knows their places.
  const idle = broken === undefined ? idleParents(parents, written, compilation.object) : [];
  return { name, parents, ...routes, problems: [...compilation.problems, ...idle] };
}

/** The parents for which the route does nothing; each of them has it in its own condition. */
function idleParents(
  parents: readonly ParentOutcome[],
  written: readonly ParentRefSpec[],
  object: string,
): readonly Problem[] {
  return parents.flatMap(({ parent, idle }): Problem[] => {
    const field = `spec.parentRefs[${written.indexOf(parent)}]`;
    return idle === undefined ? [] : [{ object, field, message: idle, admissible: true }];
  });
}

/** Names of rules are for those who refer to them; two of one name cannot be told apart. */
function noteRepeatedNames(
  rules: readonly { readonly name?: string }[],
  compilation: Compilation,
): void {
  const names = new Set<string>();
  for (const [index, { name }] of rules.entries()) {
    if (name === undefined) continue;
    if (names.has(name)) {
      compilation.note(`spec.rules[${index}].name`, `${quoted(name)} is an earlier rule's name`);
    }
    names.add(name);
  }
}

function compileRules(
  record: AnyGatewayRoute,
  compilation: Compilation,
  broken: BrokenRoute | undefined,
): Routes {
  const isClosed = (index: number): boolean => broken?.isClosed(index) ?? false;
  switch (record.kind) {
    case 'HTTPRoute':
      return {
        ...noRoutes,
        http: (record.spec.rules ?? [{}]).flatMap((rule, index) =>
          compileRequestRule(rule, index, compilation, {
            compileMatch: compileHttpMatch,
            isClosed: isClosed(index),
          }),
        ),
      };
    case 'GRPCRoute':
      return {
        ...noRoutes,
        http: (record.spec.rules ?? [{}]).flatMap((rule, index) =>
          compileRequestRule(rule, index, compilation, {
            compileMatch: compileGrpcMatch,
            isClosed: isClosed(index),
          }),
        ),
      };
    case 'TCPRoute':
      return { ...noRoutes, tcp: compileTcpRules(record.spec.rules, compilation, isClosed) };
    case 'TLSRoute':
      return { ...noRoutes, tls: compileTlsRules(record.spec, compilation, isClosed) };
  }
}

/** A rule of HTTPRoute or GRPCRoute: they differ in how they match. */
interface RequestRule<M> extends TryRules {
  readonly name?: string;
  readonly matches?: readonly M[];
  readonly filters?: readonly HttpFilterSpec[];
  readonly backendRefs?: readonly FilteredBackendRef[];
  readonly sessionPersistence?: object;
}

function compileRequestRule<M extends object>(
  rule: RequestRule<M>,
  index: number,
  compilation: Compilation,
  {
    compileMatch,
    isClosed,
  }: {
    readonly compileMatch: (
      spec: M | Record<string, never>,
      path: string,
      compilation: Compilation,
    ) => CompiledMatch;
    readonly isClosed: boolean;
  },
): OrderedHttpRoute[] {
  const path = `spec.rules[${index}]`;
  const specs = rule.matches === undefined || rule.matches.length === 0 ? [{}] : rule.matches;
  const matches = specs.map((spec, at) =>
    compileMatch(spec, `${path}.matches[${at}]`, compilation),
  );
  const build = isClosed
    ? () => closedBody(unreadable)
    : requestRoutes(rule, path, matches, compilation);
  const kind = compilation.kind === 'GRPCRoute' ? 'GRPCRoute' : 'HTTPRoute';
  const name = `${compilation.name}/${rule.name ?? index}`;
  return matches.map((match, at) => {
    const body = match.unsure
      ? { ...closedBody('a match that makes no sense'), unsure: true }
      : build(match);
    const route: HttpRoute = { name, matches: [match.match], ...body };
    return { route, order: { kind, precedence: match.precedence, rule: index, match: at } };
  });
}

const unreadable = 'a part of the route cannot be read; see its status';

type RouteBody = Omit<HttpRoute, 'name' | 'matches'>;

/** How the routes of a rule are made from its matches; closed ones when a part of the rule is refused. */
function requestRoutes(
  rule: RequestRule<object>,
  path: string,
  matches: readonly CompiledMatch[],
  compilation: Compilation,
): (match: CompiledMatch) => RouteBody {
  const refusals = compilation.refusals;
  if (rule.sessionPersistence !== undefined) {
    compilation.refuse(`${path}.sessionPersistence`, 'is not supported; remove it');
  }
  const filters = compileFilters(rule.filters, `${path}.filters`, compilation);
  if (matches.some((match) => match.prefix === undefined)) {
    refusePrefixReplacement(filters, compilation);
  }
  const tries = compileTries(rule, path, compilation);
  const targets = requestTargets(rule, path, filters, compilation);
  if (compilation.refusals > refusals) {
    const why = 'a part of the rule is not supported; see the status of the route';
    return () => closedBody(why);
  }
  const { request, response, mirrors, cors } = filters;
  return (match) => ({
    action: compileAction(filters, targets, match.prefix),
    request,
    response,
    ...tries,
    fault: {},
    mirrors,
    ...(cors === undefined ? {} : { cors }),
  });
}

function refusePrefixReplacement(filters: CompiledFilters, compilation: Compilation): void {
  if (filters.replacesPrefix === undefined) return;
  const message = 'needs matches of type PathPrefix only; use replaceFullPath or another rule';
  compilation.refuse(filters.replacesPrefix, message);
}

function requestTargets(
  rule: RequestRule<object>,
  path: string,
  filters: CompiledFilters,
  compilation: Compilation,
): ReturnType<typeof compileTargets> {
  if (filters.redirect !== undefined) {
    if ((rule.backendRefs ?? []).length > 0) {
      compilation.note(`${path}.backendRefs`, 'is not used beside a RequestRedirect; remove it');
    }
    return [];
  }
  return compileTargets(rule.backendRefs, `${path}.backendRefs`, compilation, (ref, at) =>
    compileBackendChanges(ref, at, compilation),
  );
}

/** Answers 500. */
function closedBody(why: string): RouteBody {
  return {
    action: { kind: 'forward', targets: closedTargets(why), rewrite: {} },
    request: noChanges,
    response: noChanges,
    fault: {},
    mirrors: [],
  };
}

function closedTargets(why: string): WeightedTarget[] {
  return [{ weight: 1, target: { kind: 'missing', why }, request: noChanges, response: noChanges }];
}

const anyConnection: TcpMatch = { sourceLabels: [], destinationSubnets: [] };

/** Connections tell nothing by which a second rule could be chosen. */
function noteUnreachedRules(rules: readonly ConnectionRuleSpec[], compilation: Compilation): void {
  if (rules.length > 1) {
    compilation.note('spec.rules[1]', 'is never reached: the first rule takes every connection');
  }
}

function compileTcpRules(
  rules: readonly ConnectionRuleSpec[],
  compilation: Compilation,
  isClosed: (index: number) => boolean,
): TcpRoute[] {
  noteUnreachedRules(rules, compilation);
  return rules.map((rule, index) => ({
    name: `${compilation.name}/${rule.name ?? index}`,
    matches: [anyConnection],
    targets: isClosed(index)
      ? closedTargets(unreadable)
      : compileTargets(rule.backendRefs, `spec.rules[${index}].backendRefs`, compilation),
  }));
}

/** One route for each name, so that exact names can be put before those with a star. */
function compileTlsRules(
  spec: TlsRouteSpec,
  compilation: Compilation,
  isClosed: (index: number) => boolean,
): TlsRoute[] {
  const { hostnames = [] } = spec;
  const sniHosts = hostnames.length === 0 ? [[]] : hostnames.map((host) => [host.toLowerCase()]);
  return compileTcpRules(spec.rules, compilation, isClosed).flatMap(({ name, targets }) =>
    sniHosts.map((hosts) => ({
      name,
      matches: [{ ...anyConnection, sniHosts: hosts }],
      targets,
    })),
  );
}
