import type { Service, ServiceMembership, SocketAddress, SpiffeId, Workload } from '@ambit/api';
import { hbonePort, isPod, makeSpiffeIdentity, meshPorts, parsePort } from '@ambit/api';
import type { Authority, Endpoint, MeshState } from '@ambit/core';

export type PassthroughReason = 'unknown-destination' | 'not-in-mesh' | 'mtls-disabled' | 'self';

export type RefusalReason =
  'loop' | 'no-healthy-endpoint' | 'no-such-port' | 'waypoint-not-ready' | 'bad-identity';

/** What becomes of a captured outbound connection; each member holds all that its step needs. */
export type OutboundPlan =
  | {
      readonly kind: 'hbone';
      readonly nextHop: SocketAddress;
      readonly authority: Authority;
      readonly expectedIdentities: ReadonlySet<SpiffeId>;
      readonly actualDestination: SocketAddress;
      readonly destination: Workload;
      readonly service?: Service;
    }
  | {
      readonly kind: 'passthrough';
      readonly why: PassthroughReason;
      readonly actualDestination: SocketAddress;
      readonly destination?: Workload;
      readonly service?: Service;
    }
  | {
      readonly kind: 'refuse';
      readonly why: RefusalReason;
      readonly message: string;
      readonly service?: Service;
      readonly destination?: Workload;
    };

/** Endpoints that are passed over while a service has others. */
export type Avoided = (address: SocketAddress) => boolean;

/**
 * Decides where a connection of `source` to `original` goes. `random` is in [0, 1); `avoided` is asked with the
 * address of HBONE of an endpoint.
 */
export function planOutbound(
  state: MeshState,
  source: Workload,
  original: SocketAddress,
  random: () => number,
  avoided: Avoided = () => false,
): OutboundPlan {
  const question = { state, source, original, random, avoided };
  const service = state.serviceByVip(original.ip, source.namespace);
  if (service !== undefined) return planService(question, service);
  const destination = state.workloadByAddress(original.ip);
  // What somebody wrote down of an address holds for the clients of that namespace.
  const isForeign =
    destination !== undefined && !isPod(destination) && destination.namespace !== source.namespace;
  if (destination === undefined || isForeign) {
    return { kind: 'passthrough', why: 'unknown-destination', actualDestination: original };
  }
  // A pod that calls itself never leaves its namespace; the mesh's own ports are no way around that.
  if (destination.uid === source.uid) {
    return meshPorts.has(original.port)
      ? refuse('loop', `port ${original.port} belongs to the mesh`, { destination })
      : { kind: 'passthrough', why: 'self', actualDestination: original, destination };
  }
  if (destination.waypoint !== undefined) {
    return planWaypoint(question, destination.waypoint, { destination });
  }
  return planWorkload(destination, original);
}

interface Question {
  readonly state: MeshState;
  readonly source: Workload;
  readonly original: SocketAddress;
  readonly random: () => number;
  readonly avoided: Avoided;
}

interface Named {
  readonly service?: Service;
  readonly destination?: Workload;
}

function refuse(why: RefusalReason, message: string, named: Named = {}): OutboundPlan {
  return { kind: 'refuse', why, message, ...named };
}

function planService(question: Question, service: Service): OutboundPlan {
  const { original } = question;
  if (!service.ports.some(({ port }) => port === original.port)) {
    return refuse('no-such-port', `service ${service.hostname} has no port ${original.port}`, {
      service,
    });
  }
  if (service.waypoint !== undefined) {
    const plan = planWaypoint(question, service.waypoint, { service });
    // The owner may have said that reaching the service counts for more than passing its waypoint.
    const direct = plan.kind === 'refuse' && service.withoutWaypoint === 'direct';
    if (!direct) return plan;
  }
  if (service.entry?.resolution === 'none') {
    return { kind: 'passthrough', why: 'not-in-mesh', actualDestination: original, service };
  }
  const chosen = chooseEndpoint(question, service, original);
  if (chosen === undefined) {
    return refuse('no-healthy-endpoint', `service ${service.hostname} has no healthy endpoint`, {
      service,
    });
  }
  return planWorkload(chosen.workload, chosen.address, service);
}

function planWorkload(destination: Workload, to: SocketAddress, service?: Service): OutboundPlan {
  const named = service === undefined ? {} : { service };
  if (destination.tunnel !== 'hbone') {
    return {
      kind: 'passthrough',
      why: 'not-in-mesh',
      actualDestination: to,
      destination,
      ...named,
    };
  }
  const mode =
    destination.mtls.ports.find(({ port }) => port === to.port)?.mode ?? destination.mtls.mode;
  if (mode === 'DISABLE') {
    return {
      kind: 'passthrough',
      why: 'mtls-disabled',
      actualDestination: to,
      destination,
      ...named,
    };
  }
  if (meshPorts.has(to.port)) {
    return refuse('loop', `port ${to.port} belongs to the mesh`, { destination, ...named });
  }
  const identity = identityOf(destination);
  if (identity === undefined) {
    return refuse('bad-identity', `workload ${destination.uid} has no usable identity`, {
      destination,
    });
  }
  return {
    kind: 'hbone',
    nextHop: { ip: to.ip, port: fixedHbonePort },
    authority: { kind: 'address', ...to },
    expectedIdentities: new Set([identity]),
    actualDestination: to,
    destination,
    ...named,
  };
}

/** To the waypoint the original destination is the authority; the waypoint chooses the endpoint. */
function planWaypoint(
  question: Question,
  waypoint: NonNullable<Workload['waypoint']>,
  named: Named,
): OutboundPlan {
  const { original } = question;
  const found = findWaypoint(question, waypoint);
  const identity = found === undefined ? undefined : identityOf(found.workload);
  if (found === undefined || identity === undefined) {
    return refuse(
      'waypoint-not-ready',
      `the waypoint of this destination is missing or not ready (${nameOf(waypoint)})`,
      named,
    );
  }
  return {
    kind: 'hbone',
    nextHop: found.address,
    authority: { kind: 'address', ...original },
    expectedIdentities: new Set([identity]),
    actualDestination: original,
    destination: found.workload,
    ...(named.service === undefined ? {} : { service: named.service }),
  };
}

function nameOf(waypoint: NonNullable<Workload['waypoint']>): string {
  return waypoint.kind === 'service' ? waypoint.service : waypoint.ip;
}

function findWaypoint(
  question: Question,
  waypoint: NonNullable<Workload['waypoint']>,
): { readonly workload: Workload; readonly address: SocketAddress } | undefined {
  const { state } = question;
  if (waypoint.kind === 'address') {
    const workload = state.workloadByAddress(waypoint.ip);
    return workload && { workload, address: { ip: waypoint.ip, port: waypoint.port } };
  }
  const service = state.service(waypoint.service);
  const [vip] = service?.vips ?? [];
  if (service === undefined || vip === undefined) return undefined;
  return chooseEndpoint(question, service, { ip: vip, port: waypoint.port });
}

function chooseEndpoint(
  { state, source, random, avoided }: Question,
  service: Service,
  original: SocketAddress,
): { readonly workload: Workload; readonly address: SocketAddress } | undefined {
  const wantsV6 = original.ip.includes(':');
  const usable = state
    .endpointsOf(keyOf(service))
    .filter(
      ({ workload, membership }) =>
        (membership.ready || service.publishNotReady) &&
        workload.addresses.length > 0 &&
        targetPort(membership, original.port) !== undefined,
    );
  // Passed over before the ranking: the next best place is better than one that does not answer.
  const reachable = usable.filter(
    ({ workload }) => !workload.addresses.some((ip) => avoided({ ip, port: fixedHbonePort })),
  );
  const best = preferred(source, service, reachable.length > 0 ? reachable : usable);
  const chosen = best[Math.floor(random() * best.length)];
  const port = chosen && targetPort(chosen.membership, original.port);
  if (chosen === undefined || port === undefined) return undefined;
  const { addresses } = chosen.workload;
  const ip = addresses.find((address) => address.includes(':') === wantsV6) ?? addresses[0];
  return ip && { workload: chosen.workload, address: { ip, port } };
}

function keyOf(service: Service): ServiceMembership['service'] {
  return `${service.namespace}/${service.hostname}` as ServiceMembership['service'];
}

function targetPort(
  { ports }: ServiceMembership,
  servicePort: number,
): SocketAddress['port'] | undefined {
  return ports.find((port) => port.servicePort === servicePort)?.targetPort;
}

/** The endpoints that share most with the source, in the order in which the service ranks it. */
function preferred(
  source: Workload,
  service: Service,
  endpoints: readonly Endpoint[],
): readonly Endpoint[] {
  const balancing = service.loadBalancing;
  if (balancing.mode === 'any') return endpoints;
  const shared = endpoints.map(({ workload }) => {
    const first = balancing.scopes.findIndex((scope) => !shares(source, workload, scope));
    return first < 0 ? balancing.scopes.length : first;
  });
  const most = balancing.mode === 'strict' ? balancing.scopes.length : Math.max(0, ...shared);
  return endpoints.filter((_, index) => shared[index] === most);
}

function shares(source: Workload, other: Workload, scope: string): boolean {
  switch (scope) {
    case 'network':
      return source.network === other.network;
    case 'cluster':
      return source.clusterId === other.clusterId;
    case 'node':
      return source.node === other.node;
    case 'region':
      return source.locality.region === other.locality.region;
    case 'zone':
      return source.locality.zone === other.locality.zone;
    default:
      return source.locality.subzone === other.locality.subzone;
  }
}

function identityOf(workload: Workload): SpiffeId | undefined {
  const identity = makeSpiffeIdentity(
    workload.trustDomain,
    workload.namespace,
    workload.serviceAccount,
  );
  return identity.ok ? identity.value.uri : undefined;
}

const parsedHbonePort = parsePort(hbonePort);
if (!parsedHbonePort.ok) throw new TypeError(parsedHbonePort.error.message);
const fixedHbonePort = parsedHbonePort.value;
