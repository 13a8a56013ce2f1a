import type { Port, Service, ServiceKey, ServicePort } from '@ambit/api';
import { declaredProtocol, hbonePort, serviceKey } from '@ambit/api';

import type { ParentRefSpec } from '../resources/gateway-api.ts';
import { gatewayApiGroup } from '../resources/gateway-api.ts';
import type {
  Compilation,
  ParentCondition,
  RouteWaypoint,
  RouteWorld,
} from './gateway-compilation.ts';

/** What is to be said of one parent, and where the route holds when it could be attached. */
export interface ParentOutcome {
  /** As written, because the status repeats it. */
  readonly parent: ParentRefSpec;
  readonly accepted: ParentCondition;
  readonly resolvedRefs: ParentCondition;
  /** Undefined when the route could not be attached. */
  readonly service?: ServiceKey;
  /** The other hosts of a ServiceEntry that has several, or the other services of a waypoint. */
  readonly otherServices?: readonly ServiceKey[];
  /** Every port of the service when absent. */
  readonly port?: Port;
  /** Set for a consumer route: it holds for clients of this namespace only. */
  readonly consumerNamespace?: string;
  /** By the Gateway of the waypoint: it holds for those of its services of which nothing else speaks. */
  readonly byWaypoint?: true;
  /** Why the route does nothing for this parent, however it is written; absent where it is attached to something. */
  readonly idle?: string;
}

/** `<namespace>/<name>` of the Service that all of them are; undefined where there are others. */
export function onlyService(refs: readonly ParentRefSpec[], namespace: string): string | undefined {
  const names = refs.map((ref) =>
    ref.kind === 'Service' ? `${ref.namespace ?? namespace}/${ref.name}` : undefined,
  );
  return names.every((name) => name === names[0]) ? names[0] : undefined;
}

/** Whether a parent is this mesh's to judge. */
export function isMeshParent(ref: ParentRefSpec, path: string, compilation: Compilation): boolean {
  if (isGateway(ref)) {
    const { world, namespace } = compilation;
    return world.waypoint(ref.namespace ?? namespace, ref.name) !== undefined;
  }
  const { group = gatewayApiGroup, kind = 'Gateway' } = ref;
  const wanted = groupOf.get(kind);
  if (wanted === group) return true;
  if (wanted !== undefined && group === gatewayApiGroup) {
    const why = `must be ${JSON.stringify(wanted)} for a ${kind}; the reference is not followed`;
    compilation.note(`${path}.group`, why);
  } else if (servedGroups.has(group)) {
    const why = `${kind} of group ${JSON.stringify(group)} takes no routes; name a Service, a ServiceEntry or the Gateway of a waypoint`;
    compilation.note(`${path}.kind`, why);
  }
  return false;
}

/** The kinds that routes of a mesh are for, by name: what the Gateway API takes for granted is its own group. */
const groupOf: ReadonlyMap<string, string> = new Map([
  ['Service', ''],
  ['ServiceEntry', 'networking.istio.io'],
]);
/** Of other groups nobody knows who serves them. */
const servedGroups: ReadonlySet<string> = new Set(groupOf.values());

export function isGateway({ group, kind }: ParentRefSpec): boolean {
  return (
    (kind === undefined || kind === 'Gateway') && (group === undefined || group === gatewayApiGroup)
  );
}

/** To be asked when the rules are compiled, because the route is accepted as a whole or not at all. */
export function parentOutcome(
  parent: ParentRefSpec,
  compilation: Compilation,
  hostnames: readonly string[],
): ParentOutcome {
  const { resolvedRefs, world } = compilation;
  const namespace = parent.namespace ?? compilation.namespace;
  const refused = ([reason, message]: Refusal): ParentOutcome => ({
    parent,
    accepted: { status: false, reason, message },
    resolvedRefs,
    idle: message,
  });
  if (isGateway(parent)) {
    const waypoint = world.waypoint(namespace, parent.name);
    if (waypoint === undefined) return refused(['NoMatchingParent', 'there is no such waypoint']);
    const refusal = refusalOf(parent, compilation, waypoint);
    return refusal === undefined
      ? ofWaypoint(parent, compilation, waypoint, hostnames)
      : refused(refusal);
  }
  const { key, services } = named(parent, namespace, world);
  const [service, ...others] = services;
  if (service === undefined) return refused(['NoMatchingParent', `there is no ${key}`]);
  const isOnePort = parent.port !== undefined || parent.sectionName !== undefined;
  const ports = service.ports.filter((one) => isNamed(one, parent));
  const [port] = ports;
  if (isOnePort && port === undefined)
    return refused(['NoMatchingParent', `${key} has no TCP port ${wantedPort(parent)}`]);
  const idle = withoutRequests(compilation, key, ports);
  return {
    parent,
    accepted: idle === undefined ? compilation.accepted : compilation.acceptedFor(idle),
    resolvedRefs,
    ...(idle === undefined ? {} : { idle }),
    service: serviceKey(service.namespace, service.hostname),
    ...(others.length === 0 ? {} : { otherServices: others.map(keyOf) }),
    ...(isOnePort && port !== undefined ? { port: port.port } : {}),
    ...(namespace === compilation.namespace ? {} : { consumerNamespace: compilation.namespace }),
  };
}

function isNamed(one: ServicePort, { port, sectionName }: ParentRefSpec): boolean {
  return (port ?? one.port) === one.port && (sectionName ?? one.name) === one.name;
}

/** Why a route for requests does nothing on the ports that it is for. */
function withoutRequests(
  compilation: Compilation,
  key: string,
  ports: readonly ServicePort[],
): string | undefined {
  const isIdle = isForRequests(compilation) && ports.length > 0 && !ports.some(mayCarryRequests);
  return isIdle
    ? `no port of ${key} that it is for carries HTTP, as their names and appProtocol say: no request is routed; name the port http, or use a TCPRoute`
    : undefined;
}

function isForRequests({ kind }: Pick<Compilation, 'kind'>): boolean {
  return kind === 'HTTPRoute' || kind === 'GRPCRoute';
}

function mayCarryRequests(port: ServicePort): boolean {
  const protocol = declaredProtocol(port);
  return protocol !== 'tcp' && protocol !== 'tls';
}

type Refusal = readonly [reason: string, message: string];

function refusalOf(
  { name, sectionName, port }: ParentRefSpec,
  { kind, namespace }: Compilation,
  { listeners, allows }: RouteWaypoint,
): Refusal | undefined {
  if (!isForRequests({ kind })) {
    return [
      'NotAllowedByListeners',
      `the Gateway of a waypoint takes HTTPRoutes and GRPCRoutes; refer to the Services that the ${kind} is for`,
    ];
  }
  if (sectionName !== undefined && !listeners.includes(sectionName)) {
    return ['NoMatchingParent', `Gateway ${name} has no listener named ${sectionName}`];
  }
  if (port !== undefined && port !== hbonePort) {
    return ['NoMatchingParent', `the listener of a waypoint has port ${hbonePort}`];
  }
  return allows(namespace)
    ? undefined
    : [
        'NotAllowedByListeners',
        `Gateway ${name} allows no routes of namespace ${namespace} (allowedRoutes)`,
      ];
}

function isMeant({ hostname }: Service, hostnames: readonly string[]): boolean {
  return (
    hostnames.length === 0 ||
    hostnames.some((one) =>
      one.startsWith('*.') ? hostname.endsWith(one.slice(1)) : hostname === one.toLowerCase(),
    )
  );
}

function ofWaypoint(
  parent: ParentRefSpec,
  compilation: Compilation,
  waypoint: RouteWaypoint,
  hostnames: readonly string[],
): ParentOutcome {
  const meant = waypoint.services().filter((one) => isMeant(one, hostnames));
  const [first, ...others] = meant.map(keyOf);
  const idle =
    hostnames.length === 0
      ? 'no service is bound to this waypoint'
      : 'no service that is bound to this waypoint has one of the hostnames';
  return {
    parent,
    accepted: compilation.acceptedFor(
      first === undefined
        ? idle
        : 'the route holds for the services of this waypoint that no other route and no VirtualService speaks of',
    ),
    resolvedRefs: compilation.resolvedRefs,
    byWaypoint: true,
    ...(first !== undefined ? { service: first } : waypoint.isDeployed() ? { idle } : {}),
    ...(others.length === 0 ? {} : { otherServices: others }),
  };
}

function wantedPort({ sectionName, port }: ParentRefSpec): string {
  return [
    ...(sectionName === undefined ? [] : [`named ${sectionName}`]),
    ...(port === undefined ? [] : [`with number ${port}`]),
  ].join(' and ');
}

/** The services that a parent stands for: a ServiceEntry for those of all its hosts. */
function named(
  { kind, name }: ParentRefSpec,
  namespace: string,
  world: RouteWorld,
): { readonly key: string; readonly services: readonly Service[] } {
  if (kind === 'ServiceEntry') {
    const services = world.entry?.(namespace, name) ?? [];
    return { key: `ServiceEntry ${namespace}/${name} that holds a host`, services };
  }
  const service = world.service(namespace, name);
  return {
    key: `Service ${namespace}/${name}`,
    services: service === undefined ? [] : [service],
  };
}

function keyOf(service: Service): ServiceKey {
  return serviceKey(service.namespace, service.hostname);
}
