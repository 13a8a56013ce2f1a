import type {
  IpAddress,
  MtlsMode,
  Port,
  SocketAddress,
  SpiffeIdentity,
  Workload,
} from '@ambit/api';
import { meshPorts } from '@ambit/api';
import type { Decision, Denial, MeshState, Permit } from '@ambit/core';
import { authorize, parseAuthority } from '@ambit/core';

/** What is known of an inbound connection before it is judged. */
export interface InboundFacts {
  readonly workload: Workload;
  readonly sourceIp: IpAddress;
  readonly destination: SocketAddress;
  readonly peer?: SpiffeIdentity;
  /** For whom the peer says it speaks; believed only of a waypoint of this workload. */
  readonly origin?: SpiffeIdentity;
}

/** The policies that decide nothing, and what they have to say. */
type Asides = Partial<Pick<Decision, 'dryRun' | 'audited'>>;

export type InboundPlan = Asides &
  (
    | {
        readonly kind: 'deliver';
        readonly to: SocketAddress;
        readonly permit: Permit;
      }
    | {
        readonly kind: 'deny';
        /** The answer of HBONE; a plain connection is reset. */
        readonly status: 400 | 401 | 503;
        readonly flags: 'DENY' | 'CONNECT' | '-';
        readonly message: string;
        readonly denial?: Denial;
      }
  );

/**
 * Judges a CONNECT. The authority must be an address of the very pod whose listener took the connection, or a
 * service of which that pod is an endpoint: anything else would make the proxy dial for strangers.
 */
export function planTunnel(
  state: MeshState,
  workload: Workload,
  request: {
    readonly authority: string;
    readonly localIp: IpAddress;
    readonly sourceIp: IpAddress;
    readonly peer: SpiffeIdentity;
    readonly origin?: SpiffeIdentity;
  },
): InboundPlan {
  const authority = parseAuthority(request.authority);
  if (!authority.ok) return badRequest(authority.error.message);
  const to = authority.value;
  let destination: SocketAddress;
  if (to.kind === 'address') {
    if (!workload.addresses.includes(to.ip) || to.ip !== request.localIp) {
      return badRequest(`ip mismatch: ${request.localIp} is not ${to.ip}`);
    }
    destination = { ip: to.ip, port: to.port };
  } else {
    const port = servicePortOf(state, workload, to.hostname, to.port);
    if (port === undefined)
      return badRequest(`${to.hostname}:${to.port} is no service of this workload`);
    destination = { ip: request.localIp, port };
  }
  return planDelivery(state, {
    workload,
    destination,
    sourceIp: request.sourceIp,
    peer: request.peer,
    ...(request.origin === undefined ? {} : { origin: request.origin }),
  });
}

/** Judges a plain connection to `destination`: PeerAuthentication first, then the policies, without an identity. */
export function planPlaintext(state: MeshState, facts: Omit<InboundFacts, 'peer'>): InboundPlan {
  const { workload, destination } = facts;
  if (!workload.addresses.includes(destination.ip)) {
    return badRequest(`${destination.ip} is no address of this workload`);
  }
  if (mtlsModeOf(workload, destination.port) === 'STRICT') {
    const message = `plain text to port ${destination.port}, where PeerAuthentication demands mutual TLS (STRICT)`;
    return { kind: 'deny', status: 401, flags: 'DENY', message };
  }
  return planDelivery(state, facts);
}

export function mtlsModeOf(workload: Workload, port: Port): MtlsMode {
  return workload.mtls.ports.find((entry) => entry.port === port)?.mode ?? workload.mtls.mode;
}

/** Judges again what was let in before: a policy may have changed since. */
export function planDelivery(state: MeshState, facts: InboundFacts): InboundPlan {
  const { workload, destination, sourceIp, peer } = facts;
  const fromWaypoint = peer !== undefined && workload.waypointIdentities.includes(peer.uri);
  if (meshPorts.has(destination.port))
    return badRequest(`port ${destination.port} belongs to the mesh`);
  if (workload.waypointRequiredBy !== undefined && !fromWaypoint) {
    const message = `${workload.waypointRequiredBy} holds here, and this did not come through the waypoint that enforces it`;
    return { kind: 'deny', status: 401, flags: 'DENY', message };
  }
  const decision = authorize(state.policiesFor(workload), {
    ...(peer === undefined ? {} : { sourceIdentity: peer }),
    ...(fromWaypoint && facts.origin !== undefined ? { originIdentity: facts.origin } : {}),
    sourceIp,
    destinationIp: destination.ip,
    destinationPort: destination.port,
  });
  const { dryRun, audited } = decision;
  if (decision.verdict === 'allow') {
    return { kind: 'deliver', to: destination, permit: decision.permit, dryRun, audited };
  }
  const { denial } = decision;
  const { message } = denial;
  return { kind: 'deny', status: 401, flags: 'DENY', message, denial, dryRun, audited };
}

function badRequest(message: string): InboundPlan {
  return { kind: 'deny', status: 400, flags: 'CONNECT', message };
}

function servicePortOf(
  state: MeshState,
  workload: Workload,
  hostname: string,
  port: Port,
): Port | undefined {
  for (const membership of workload.services) {
    if (state.service(membership.service)?.hostname !== hostname) continue;
    return membership.ports.find(({ servicePort }) => servicePort === port)?.targetPort;
  }
  return undefined;
}
