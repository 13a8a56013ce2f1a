import type {
  HttpMatch,
  HttpRoute,
  Port,
  ServiceKey,
  SourceMatch,
  Target,
  WeightedTarget,
} from '@ambit/api';

/** Of a Service. */
export type ServiceTarget = Extract<Target, { readonly kind: 'service' }>;

/**
 * A target of a Service with several ports, none of which is named: as in Istio, requests keep the port on which they
 * came. It is settled when the table of a service is made; no proxy sees it.
 */
interface OpenTarget extends ServiceTarget {
  readonly openPorts: readonly Port[];
}

/** Of `ports`, which are several. */
export function openTarget(service: ServiceKey, ports: readonly Port[]): ServiceTarget {
  const target: OpenTarget = { kind: 'service', service, port: ports[0] as Port, openPorts: ports };
  return target;
}

function isOpen(target: Target): target is OpenTarget {
  return 'openPorts' in target;
}

/** Whether it is open, and what is routed comes on none of its ports. */
export function neverFits(target: Target, arrivals: readonly Port[] | undefined): boolean {
  if (!isOpen(target) || arrivals === undefined || arrivals.length === 0) return false;
  return !arrivals.some((port) => target.openPorts.includes(port));
}

function settled(target: Target, port: Port): Target {
  if (!isOpen(target)) return target;
  const { openPorts, ...rest } = target;
  if (openPorts.includes(port)) return { ...rest, port };
  return { kind: 'missing', why: `the destination has no port ${port}, on which the request came` };
}

interface Routing<M> {
  readonly matches: readonly M[];
}

/** A route for each port, where what it leads to depends on the port. */
function perPort<M extends SourceMatch, R extends Routing<M>>(
  route: R,
  ports: readonly Port[],
  any: M,
  withPort: (port: Port) => R,
): readonly R[] {
  const written = route.matches.length === 0 ? [any] : route.matches;
  return ports.flatMap((port) => {
    const matches = written
      .filter((match) => match.port === undefined || match.port === port)
      .map((match) => ({ ...match, port }));
    return matches.length === 0 ? [] : [{ ...withPort(port), matches }];
  });
}

function settledTargets(targets: readonly WeightedTarget[], port: Port): readonly WeightedTarget[] {
  return targets.map((one) => ({ ...one, target: settled(one.target, port) }));
}

/** The routes of a service with these ports. */
export function settledHttp(
  route: HttpRoute,
  ports: readonly Port[],
  any: HttpMatch,
): readonly HttpRoute[] {
  const { action, mirrors } = route;
  const targets = action.kind === 'forward' ? action.targets : [];
  if (![...targets, ...mirrors].some(({ target }) => isOpen(target))) return [route];
  return perPort(route, ports, any, (port) => ({
    ...route,
    action:
      action.kind === 'forward'
        ? { ...action, targets: settledTargets(action.targets, port) }
        : action,
    mirrors: mirrors.map((one) => ({ ...one, target: settled(one.target, port) })),
  }));
}

/** The same for routes of connections. */
export function settledL4<
  M extends SourceMatch,
  R extends Routing<M> & { readonly targets: readonly WeightedTarget[] },
>(route: R, ports: readonly Port[], any: M): readonly R[] {
  if (!route.targets.some(({ target }) => isOpen(target))) return [route];
  return perPort(route, ports, any, (port) => ({
    ...route,
    targets: settledTargets(route.targets, port),
  }));
}

/** The ports on which what the matches find can come; undefined for any. */
export function arrivalsOf(
  matches: readonly SourceMatch[],
  ports: readonly Port[] | undefined,
): readonly Port[] | undefined {
  const isAny = matches.length === 0 || matches.some(({ port }) => port === undefined);
  if (isAny) return ports;
  const named = matches.flatMap(({ port }) => port ?? []);
  return ports === undefined ? named : named.filter((port) => ports.includes(port));
}
