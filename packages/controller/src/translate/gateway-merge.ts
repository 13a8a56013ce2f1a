import type {
  HttpRoute,
  Port,
  Service,
  SourceMatch,
  TcpMatch,
  TcpRoute,
  TlsRoute,
  WeightedTarget,
} from '@ambit/api';
import { noChanges } from '@ambit/api';

import type { Metadata } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import { serviceTarget } from './gateway-backend.ts';
import type { CompiledGatewayRoute, OrderedHttpRoute, ParentOutcome } from './gateway-route.ts';

/** A route and the one of its parents by which it is attached to the service. */
export interface AttachedRoute {
  readonly compiled: CompiledGatewayRoute;
  readonly meta: Metadata;
  readonly parent: ParentOutcome;
}

export interface MergedRoutes {
  readonly http: HttpRoute[];
  readonly tcp: TcpRoute[];
  readonly tls: TlsRoute[];
}

/** Routes that are merged with one another: those of one client namespace, or those of the service's own. */
interface Group {
  readonly consumerNamespace: string | undefined;
  readonly routes: readonly AttachedRoute[];
}

/**
 * The table of one service from all that is attached to it, in the Gateway API's order. Clients of a namespace that has
 * routes of its own for a port are served by those alone (GEP-1426). With the service given, requests to ports that no
 * route of the service's own namespace speaks of go to the service as if there were no table.
 */
export function mergeGatewayRoutes(
  routes: readonly AttachedRoute[],
  service?: Service,
): MergedRoutes {
  const groups = groupsOf(routes.filter(({ parent }) => parent.service !== undefined));
  return {
    http: mergeHttp(groups, service),
    tcp: mergeTcp(groups, service),
    tls: mergeTls(groups, service),
  };
}

/** Consumers first, so that theirs are asked before the service's own. */
function groupsOf(routes: readonly AttachedRoute[]): readonly Group[] {
  const namespaces = [...new Set(routes.map(({ parent }) => parent.consumerNamespace))];
  return namespaces
    .sort((a, b) => (a === undefined ? 1 : b === undefined ? -1 : compareTexts(a, b)))
    .map((consumerNamespace) => ({
      consumerNamespace,
      routes: routes.filter(({ parent }) => parent.consumerNamespace === consumerNamespace),
    }));
}

interface Scope {
  readonly port?: Port;
  readonly sourceNamespace?: string;
}

function scopeOf({ port, consumerNamespace }: ParentOutcome): Scope {
  return {
    ...(port === undefined ? {} : { port }),
    ...(consumerNamespace === undefined ? {} : { sourceNamespace: consumerNamespace }),
  };
}

function scoped<M extends SourceMatch>(matches: readonly M[], scope: Scope): M[] {
  return matches.map((match) => ({ ...match, ...scope }));
}

/** Where a group's routes of one protocol hold: once for each port, or once for all of them. */
function scopesOf(group: Group, speaks: (compiled: CompiledGatewayRoute) => boolean): Scope[] {
  const parents = group.routes.filter(({ compiled }) => speaks(compiled)).map((one) => one.parent);
  const everyPort = parents.find(({ port }) => port === undefined);
  if (everyPort !== undefined) return [scopeOf(everyPort)];
  return [...new Map(parents.map((parent) => [parent.port, scopeOf(parent)])).values()];
}

/** Ports of the service for which its own namespace has no such routes. */
function silentPorts(
  groups: readonly Group[],
  service: Service | undefined,
  speaks: (compiled: CompiledGatewayRoute) => boolean,
): readonly Port[] {
  const own = groups.find(({ consumerNamespace }) => consumerNamespace === undefined);
  const scopes = own === undefined ? [] : scopesOf(own, speaks);
  if (scopes.some(({ port }) => port === undefined)) return [];
  const spoken = new Set(scopes.map(({ port }) => port));
  return (service?.ports ?? []).map(({ port }) => port).filter((port) => !spoken.has(port));
}

const speaksHttp = ({ http }: CompiledGatewayRoute): boolean => http.length > 0;
const speaksTcp = ({ tcp }: CompiledGatewayRoute): boolean => tcp.length > 0;
const speaksTls = ({ tls }: CompiledGatewayRoute): boolean => tls.length > 0;

function mergeHttp(groups: readonly Group[], service: Service | undefined): HttpRoute[] {
  const merged: HttpRoute[] = [];
  for (const group of groups) {
    merged.push(...sortedHttp(group));
    // What the routes of the service's own namespace do not match is answered 404 by the table itself.
    if (group.consumerNamespace === undefined) continue;
    merged.push(...scopesOf(group, speaksHttp).map(notFoundRoute));
  }
  if (merged.length === 0 || service === undefined) return merged;
  const silent = silentPorts(groups, service, speaksHttp);
  return [...merged, ...silent.map((port) => serviceRoute(service, port))];
}

const anyRequest = {
  sourceLabels: [],
  ignorePathCase: false,
  headers: [],
  withoutHeaders: [],
  query: [],
} as const;
const plain = { request: noChanges, response: noChanges, fault: {}, mirrors: [] } as const;

function notFoundRoute(scope: Scope): HttpRoute {
  return {
    name: `no-route/${scope.sourceNamespace ?? ''}`,
    matches: [{ ...anyRequest, ...scope }],
    action: { kind: 'respond', status: 404, body: '', contentType: 'text/plain' },
    ...plain,
  };
}

function serviceRoute(service: Service, port: Port): HttpRoute {
  return {
    name: `Service/${objectKey(service)}`,
    matches: [{ ...anyRequest, port }],
    action: { kind: 'forward', targets: [targetOf(service, port)], rewrite: {} },
    ...plain,
  };
}

function targetOf(service: Service, port: Port): WeightedTarget {
  const target = serviceTarget(service, port);
  return { weight: 1, target, request: noChanges, response: noChanges };
}

function sortedHttp(group: Group): HttpRoute[] {
  return group.routes
    .flatMap((attached) => attached.compiled.http.map((one) => ({ attached, one })))
    .sort(
      (a, b) =>
        compareKinds(a.one, b.one) ||
        comparePrecedence(a.one.order.precedence, b.one.order.precedence) ||
        compareAge(a.attached, b.attached) ||
        a.one.order.rule - b.one.order.rule ||
        a.one.order.match - b.one.order.match,
    )
    .map(({ attached, one }) => ({
      ...one.route,
      matches: scoped(one.route.matches, scopeOf(attached.parent)),
    }));
}

/** GEP-1426 prefers GRPCRoutes: they are the more specific kind. */
function compareKinds(a: OrderedHttpRoute, b: OrderedHttpRoute): number {
  return Number(b.order.kind === 'GRPCRoute') - Number(a.order.kind === 'GRPCRoute');
}

function comparePrecedence(a: readonly number[], b: readonly number[]): number {
  for (const [index, number] of a.entries()) {
    const difference = (b[index] ?? 0) - number;
    if (difference !== 0) return difference;
  }
  return 0;
}

function compareAge(a: AttachedRoute, b: AttachedRoute): number {
  return (
    a.meta.createdAtMs - b.meta.createdAtMs || compareTexts(objectKey(a.meta), objectKey(b.meta))
  );
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function mergeTcp(groups: readonly Group[], service: Service | undefined): TcpRoute[] {
  const merged = groups.flatMap(sortedTcp);
  if (merged.length === 0 || service === undefined) return merged;
  const silent = silentPorts(groups, service, speaksTcp);
  return [...merged, ...silent.map((port) => serviceConnections(service, port))];
}

function sortedTcp(group: Group): TcpRoute[] {
  return [...group.routes].sort(compareAge).flatMap(({ compiled, parent }) =>
    compiled.tcp.map((route) => ({
      ...route,
      matches: scoped(route.matches, scopeOf(parent)),
    })),
  );
}

const anyConnection: TcpMatch = { sourceLabels: [], destinationSubnets: [] };

function serviceConnections(service: Service, port: Port): TcpRoute {
  return {
    name: `Service/${objectKey(service)}`,
    matches: [{ ...anyConnection, port }],
    targets: [targetOf(service, port)],
  };
}

/**
 * Where there are TLS routes, proxies ask those alone for a connection with a name: so they get what TCPRoutes say of
 * other ports as well.
 */
function mergeTls(groups: readonly Group[], service: Service | undefined): TlsRoute[] {
  if (!groups.some(({ routes }) => routes.some(({ compiled }) => speaksTls(compiled)))) return [];
  const merged: TlsRoute[] = [];
  for (const group of groups) {
    merged.push(...sortedTls(group));
    merged.push(...scopesOf(group, speaksTls).map(refusedNames));
    merged.push(...sortedTcp(group).map(forAnyName));
  }
  if (service === undefined) return merged;
  const silent = silentPorts(groups, service, (one) => speaksTls(one) || speaksTcp(one));
  return [...merged, ...silent.map((port) => forAnyName(serviceConnections(service, port)))];
}

function forAnyName(route: TcpRoute): TlsRoute {
  return { ...route, matches: route.matches.map((match) => ({ ...match, sniHosts: [] })) };
}

function refusedNames(scope: Scope): TlsRoute {
  const target = { kind: 'missing', why: 'no TLSRoute has the name' } as const;
  return {
    name: `no-route/${scope.sourceNamespace ?? ''}`,
    matches: [{ ...anyConnection, sniHosts: [], ...scope }],
    targets: [{ weight: 1, target, request: noChanges, response: noChanges }],
  };
}

/** The most specific name first, whatever the age of its route: a star must not hide a whole name. */
function sortedTls(group: Group): TlsRoute[] {
  return group.routes
    .flatMap((attached) => attached.compiled.tls.map((route) => ({ attached, route })))
    .sort(
      (a, b) =>
        comparePrecedence(namePrecedence(a.route), namePrecedence(b.route)) ||
        compareAge(a.attached, b.attached),
    )
    .map(({ attached, route }) => ({
      ...route,
      matches: scoped(route.matches, scopeOf(attached.parent)),
    }));
}

function namePrecedence({ matches }: TlsRoute): readonly number[] {
  const name = matches[0]?.sniHosts[0] ?? '';
  return [name === '' || name.startsWith('*') ? 0 : 1, name.length];
}
