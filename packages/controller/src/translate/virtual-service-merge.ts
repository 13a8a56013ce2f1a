import type {
  HttpMatch,
  HttpRoute,
  Port,
  RouteTable,
  ServiceKey,
  SourceMatch,
  TcpMatch,
  TcpRoute,
  TlsMatch,
  TlsRoute,
} from '@ambit/api';
import { noChanges } from '@ambit/api';

import { isExportedTo } from './export-to.ts';
import { settledHttp, settledL4 } from './open-port.ts';
import type { CompiledVirtualService } from './virtual-service.ts';
import { mostSpecific } from './wildcard-host.ts';

/** The service whose table is made. */
export interface Routed {
  readonly service: ServiceKey;
  readonly namespace: string;
  readonly ports: readonly Port[];
}

/** What one VirtualService says, for clients of some namespaces only where they are named. */
interface Part {
  readonly routes: CompiledVirtualService;
  readonly clients: readonly string[] | undefined;
}

/**
 * All VirtualServices of one service, oldest first; with a wildcard only where none of those names it that hold for the
 * same clients. One of another namespace than the service's (and not the root's)
 * holds for clients of its own namespace only, and comes first for them: nobody routes the traffic of others. One
 * that is not exported to the service's namespace holds for clients of those that it is exported to.
 */
export function mergeVirtualServices(
  { service, namespace, ports }: Routed,
  rootNamespace: string,
  all: readonly CompiledVirtualService[],
): RouteTable | undefined {
  const parts = [...all]
    .sort((left, right) => left.createdAtMs - right.createdAtMs || (left.key < right.key ? -1 : 1))
    .map((routes): Part => ({ routes, clients: clientsOf(routes, namespace, rootNamespace) }));
  const heard = heardOf(parts, service);
  if (heard.size === 0) return undefined;
  const ordered = [
    ...parts.filter((one) => one.clients !== undefined && heard.has(one)),
    ...parts.filter((one) => one.clients === undefined && heard.has(one)),
  ];
  const http = ordered.flatMap(({ routes, clients }) => scoped(routes.http, clients, anyRequest));
  // Of a port that no route speaks of, everybody still reaches the service itself.
  const own = ordered.flatMap((one) => (one.clients === undefined ? one.routes.http : []));
  const rest =
    http.length === 0 ? [] : ports.filter((port) => !own.some((route) => speaksOf(route, port)));
  return {
    service,
    http: [
      ...http.flatMap((route) => settledHttp(route, ports, anyRequest)),
      ...rest.map((port) => itself(service, port)),
    ],
    tls: ordered
      .flatMap(({ routes, clients }) => scoped<TlsMatch, TlsRoute>(routes.tls, clients, anyName))
      .flatMap((route) => settledL4<TlsMatch, TlsRoute>(route, ports, anyName)),
    tcp: ordered
      .flatMap(({ routes, clients }) => scoped(routes.tcp, clients, anyConnection))
      .flatMap((route) => settledL4<TcpMatch, TcpRoute>(route, ports, anyConnection)),
  };
}

/** For each circle of clients the parts that speak of the service most plainly. */
function heardOf(parts: readonly Part[], service: ServiceKey): ReadonlySet<Part> {
  const circles = Map.groupBy(parts, ({ clients }) => clients?.join(','));
  return new Set(
    [...circles.values()].flatMap((circle) => mostSpecific(circle, service, (one) => one.routes)),
  );
}

/** Undefined for everybody. */
function clientsOf(
  { namespace: own, exportedTo }: CompiledVirtualService,
  namespace: string,
  rootNamespace: string,
): readonly string[] | undefined {
  if (own !== namespace && own !== rootNamespace) return isExportedTo(exportedTo, own) ? [own] : [];
  return isExportedTo(exportedTo, namespace) ? undefined : exportedTo;
}

function speaksOf({ matches }: HttpRoute, port: Port): boolean {
  return (
    matches.length === 0 || matches.some((match) => match.port === undefined || match.port === port)
  );
}

const anyRequest: HttpMatch = {
  sourceLabels: [],
  ignorePathCase: false,
  headers: [],
  withoutHeaders: [],
  query: [],
};
const anyConnection: TcpMatch = { sourceLabels: [], destinationSubnets: [] };
const anyName: TlsMatch = { ...anyConnection, sniHosts: [] };

function scoped<M extends SourceMatch, R extends { readonly matches: readonly M[] }>(
  routes: readonly R[],
  clients: readonly string[] | undefined,
  any: M,
): R[] {
  if (clients === undefined) return [...routes];
  return routes.flatMap((route) => {
    const written = route.matches.length === 0 ? [any] : route.matches;
    const matches = written.flatMap((match) =>
      clients
        .filter((one) => match.sourceNamespace === undefined || match.sourceNamespace === one)
        .map((sourceNamespace) => ({ ...match, sourceNamespace })),
    );
    return matches.length === 0 ? [] : [{ ...route, matches }];
  });
}

/** The service as if there were no table, for one port of it. */
export function itself(service: ServiceKey, port: Port): HttpRoute {
  const target = { kind: 'service', service, port } as const;
  return {
    name: 'default',
    matches: [{ ...anyRequest, port }],
    action: {
      kind: 'forward',
      targets: [{ weight: 100, target, request: noChanges, response: noChanges }],
      rewrite: {},
    },
    request: noChanges,
    response: noChanges,
    fault: {},
    mirrors: [],
  };
}
