import type { Gateway, IpAddress, PolicyTarget, Service, ServiceKey, Workload } from '@ambit/api';
import { parseIp } from '@ambit/api';
import type {
  ConnectionFacts,
  Decision,
  MeshState,
  RequestFacts,
  VerifiedToken,
} from '@ambit/core';
import { authorize } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import type { RequestHead } from '../http/message.ts';
import { requestField } from '../http/request-field.ts';
import { toldClient } from '../http/vouched.ts';
import { keyOf } from '../inbound/plan.ts';

const lists = new WeakMap<
  Gateway,
  WeakMap<Service | Workload | Gateway, readonly PolicyTarget[]>
>();

/**
 * What policies may be attached to for traffic like this. One list for each service or workload, so that what is looked
 * up by it is not looked up again for each connection. Policies of its services hold for a workload that is asked for by
 * its own address, too: its node lets in whatever comes through the waypoint.
 */
export function targetsOf(
  { gateway, service, workload }: Partial<Downstream> & Pick<Downstream, 'gateway'>,
  state: Pick<MeshState, 'service'>,
): readonly PolicyTarget[] {
  let ofGateway = lists.get(gateway);
  if (ofGateway === undefined) lists.set(gateway, (ofGateway = new WeakMap()));
  const what = service ?? workload ?? gateway;
  const known = ofGateway.get(what);
  if (known !== undefined) return known;
  const keys = service === undefined ? servicesOf(workload) : [keyOf(service)];
  const services = keys.flatMap((key) => state.service(key) ?? []);
  const entries = services.filter(({ entry }) => entry !== undefined);
  const targets = listOf(gateway, keys, service === undefined ? entries : [service]);
  // Of which ServiceEntry a workload's service is can change without the workload.
  const lasts = service !== undefined || (services.length === keys.length && entries.length === 0);
  if (lasts) ofGateway.set(what, targets);
  return targets;
}

function servicesOf(workload: Workload | undefined): readonly ServiceKey[] {
  return (workload?.services ?? []).map(({ service }) => service);
}

function listOf(
  gateway: Gateway,
  keys: readonly ServiceKey[],
  entries: readonly Service[],
): readonly PolicyTarget[] {
  return [
    { kind: 'gateway-class', name: gateway.className },
    { kind: 'gateway', namespace: gateway.namespace, name: gateway.name },
    ...keys.map((service): PolicyTarget => ({ kind: 'service', service })),
    ...entries.flatMap(({ namespace, entry }): readonly PolicyTarget[] =>
      entry === undefined ? [] : [{ kind: 'service-entry', namespace, name: entry.name }],
    ),
  ];
}

/** What is known besides the ends of a connection. */
export interface Known {
  readonly request?: RequestFacts;
  readonly sni?: string;
  readonly remoteIp?: IpAddress;
}

export function connectionFacts(downstream: Downstream, known: Known): ConnectionFacts {
  return {
    sourceIdentity: downstream.peer,
    sourceIp: downstream.source.ip,
    destinationIp:
      downstream.service?.vips[0] ?? downstream.workload?.addresses[0] ?? downstream.local.ip,
    destinationPort: downstream.port,
    ...known,
    ...(known.sni === undefined ? {} : { sni: known.sni.toLowerCase() }),
  };
}

/** Judges a request, or a connection of which no more is known than its ends and perhaps a server name. */
export function judge(
  context: WaypointContext,
  downstream: Downstream,
  known: Known,
  custom: 'refuse' | 'asked' = 'refuse',
): Decision {
  const { targets, gateway } = downstream;
  const applicable = context.policies.of(targets, gateway.namespace).policies;
  const decision = authorize(applicable, connectionFacts(downstream, known), custom);
  if (decision.dryRun.length + decision.audited.length > 0)
    tell(context, downstream, decision, known);
  return decision;
}

/** What nobody acts on: policies in dry run that would have refused, and those that only want to know. */
function tell(
  { metrics, logger }: WaypointContext,
  { peer, service, workload }: Downstream,
  { dryRun, audited, verdict }: Decision,
  { request }: { readonly request?: RequestFacts },
): void {
  const what = {
    'src.identity': peer.uri,
    'dst.service': service?.hostname,
    'dst.workload': workload?.name,
    ...(request === undefined
      ? {}
      : { method: request.method, authority: request.authority, path: request.path }),
    verdict,
  };
  for (const { policy, would } of dryRun) {
    metrics.dryRun(policy, would);
    if (would === 'deny') logger.info({ policy, ...what }, 'dry run: the policy would deny this');
  }
  for (const policy of audited) {
    metrics.audited(policy);
    logger.info({ policy, ...what }, 'audit: the policy asks for this to be told');
  }
}

/** The original client of a request, where a proxy that the mesh trusts tells it. */
export function remoteIpOf(
  { trustedForwarders }: Pick<Gateway, 'trustedForwarders'>,
  { peer }: Downstream,
  request: RequestHead,
): { readonly remoteIp?: IpAddress } {
  if (trustedForwarders.length === 0 || !trustedForwarders.includes(peer.uri)) return {};
  const told = parseIp(toldClient(request.headers) ?? '');
  return told.ok ? { remoteIp: told.value } : {};
}

export function factsOf(request: RequestHead, token: VerifiedToken | undefined): RequestFacts {
  const queryAt = request.path.indexOf('?');
  return {
    method: request.method,
    authority: request.authority,
    path: queryAt < 0 ? request.path : request.path.slice(0, queryAt),
    header: (name) => requestField(request, request.path, name),
    ...(token === undefined ? {} : { token }),
  };
}
