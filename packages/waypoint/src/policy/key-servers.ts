import type { Hostname, IpAddress, Port, Service, SpiffeIdentity } from '@ambit/api';
import { parsePort } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import { MeshError, authorize, normalizePath } from '@ambit/core';
import type { Reach } from '../client/reach.ts';
import type { WaypointContext } from '../context.ts';
import type { EndpointHost } from '../forward/endpoint.ts';
import { inMesh } from '../forward/open.ts';
import { HeaderList } from '../http/headers.ts';
import type { RequestHead } from '../http/message.ts';
import { keyOf } from '../inbound/plan.ts';
import type { GuardOptions } from './guarded-fetch.ts';
import { checkEndpoint, refused } from './guarded-fetch.ts';
import { factsOf, targetsOf } from './judge.ts';

export interface KeyServerOptions {
  readonly state: MeshState;
  readonly reach: Reach;
  readonly bindings: Pick<WaypointContext['bindings'], 'serves'>;
  readonly policies: Pick<WaypointContext['policies'], 'of'>;
  readonly gateway: WaypointContext['gateway'];
  /** Under which the waypoint asks. */
  readonly identity: SpiffeIdentity;
  readonly ownIp: () => IpAddress;
}

/**
 * How key servers are reached: one in the mesh as every service is, with the waypoint's identity, and by its name. What
 * holds for its other clients holds for the waypoint, too: a URI that somebody wrote opens nothing that is closed.
 */
export function keyServers(options: KeyServerOptions): GuardOptions {
  const { state, reach } = options;
  return {
    isOfMesh: (ip: IpAddress) =>
      state.workloadByAddress(ip) !== undefined || state.serviceByVip(ip) !== undefined,
    openService: (url, number) => {
      const service = serviceNamed(state, url.hostname.toLowerCase().replace(/\.$/, ''));
      if (service === undefined) return undefined;
      const port = parsePort(number);
      if (!port.ok) throw new MeshError('client/no-port', port.error.message);
      const { hostname, namespace } = service;
      if (isKubernetes(service)) {
        throw refused(
          `${hostname} is the API of Kubernetes, which is not asked: write the keys of its issuer into jwks`,
        );
      }
      checkPolicies(options, service, port.value, url);
      const check = (endpoint: EndpointHost): void => checkPlace(options, service, endpoint);
      return reach({ host: hostname, port: port.value, namespace }, check).connect();
    },
  };
}

/** Each cluster has it, and it may be nobody's way to the API server, whatever its address is. */
function isKubernetes({ namespace, name }: Service): boolean {
  return namespace === 'default' && name === 'kubernetes';
}

/** Judges the request by what this very waypoint enforces for the service: its own calls do not come in through it. */
function checkPolicies(
  { state, bindings, policies, gateway, identity, ownIp }: KeyServerOptions,
  service: Service,
  port: Port,
  url: URL,
): void {
  const own = gateway();
  if (own === undefined || !bindings.serves(service)) return;
  const request = requestFor(url);
  const targets = targetsOf({ gateway: own, service }, state);
  const held = policies.of(targets, own.namespace);
  const unreadable = state
    .authenticationsForTargets(targets)
    .some((one) => one === 'undecodable' || one.broken);
  if (unreadable) throw new MeshError('client/denied', 'RequestAuthentication cannot be read');
  const decision = authorize(held.policies, {
    sourceIdentity: identity,
    sourceIp: ownIp(),
    destinationIp: service.vips[0] ?? ownIp(),
    destinationPort: port,
    request: factsOf(request, undefined),
  });
  if (decision.verdict === 'deny') {
    throw new MeshError('client/denied', `${keyOf(service)}: ${decision.denial.message}`);
  }
}

/** What nobody else would stop at the endpoint that was chosen. */
function checkPlace(
  { state, bindings, identity }: KeyServerOptions,
  service: Service,
  endpoint: EndpointHost,
): void {
  const { workload, address } = endpoint;
  const isServed = bindings.serves(service);
  if (!inMesh(endpoint)) {
    // Nobody there asks through which waypoint this came.
    if (service.waypoint?.kind === 'service' && !isServed) {
      throw new MeshError('client/denied', `${keyOf(service)} is behind another waypoint`);
    }
    checkEndpoint(service.hostname, address.ip);
    if (isOfService(state, address.ip)) {
      throw refused(`${service.hostname} is at ${address.ip}, which is another Service's`);
    }
    return;
  }
  // The node proxy there takes our identity for a sign that policies were enforced; by this name there are none.
  const isTrusted = workload.waypointIdentities.includes(identity.uri);
  if (workload.waypointRequiredBy !== undefined && isTrusted && !isServed) {
    const why = `${workload.waypointRequiredBy} holds for ${workload.uid}`;
    throw new MeshError('client/denied', `${why}; name a Service that is bound to its waypoint`);
  }
}

/** A ServiceEntry may give another name to anything: not to a virtual address, nor to the API server's own. */
function isOfService(state: MeshState, ip: IpAddress): boolean {
  if (state.serviceByVip(ip) !== undefined) return true;
  const [api] = [...state.services()].filter(isKubernetes);
  if (api === undefined) return false;
  return state.endpointsOf(keyOf(api)).some(({ workload }) => workload.addresses.includes(ip));
}

/** What is going to be sent; only a path of which there is one reading. */
function requestFor(url: URL): RequestHead {
  const path = `${url.pathname}${url.search}`;
  const normal = normalizePath(path);
  if (!normal.ok) throw refused(`its path is refused: ${normal.error}`);
  if (normal.value !== path) throw refused(`its path must be written as ${normal.value}`);
  return {
    method: 'GET',
    scheme: url.protocol.slice(0, -1),
    authority: url.host,
    path,
    headers: HeaderList.of([['accept', 'application/json']]),
    protocol: 'HTTP/1.1',
    upgrade: undefined,
    expectContinue: false,
  };
}

/** By its whole name, or as far as `name.namespace` of it. */
function serviceNamed(state: MeshState, hostname: string): Service | undefined {
  const found = state.serviceByHostname(hostname as Hostname);
  if (found !== undefined) return found;
  const [name = '', namespace = '', ...rest] = hostname.split('.');
  if (rest.length > 1 || (rest.length === 1 && rest[0] !== 'svc')) return undefined;
  for (const service of state.services()) {
    if (service.hostname.startsWith(`${name}.${namespace}.svc.`)) return service;
  }
  return undefined;
}
