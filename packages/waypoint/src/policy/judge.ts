import type { Gateway, IpAddress, PolicyTarget, Service } from '@ambit/api';
import { parseIp } from '@ambit/api';
import type { ConnectionFacts, Decision, RequestFacts, VerifiedToken } from '@ambit/core';
import { authorize } from '@ambit/core';
import type { Downstream, WaypointContext } from '../context.ts';
import type { RequestHead } from '../http/message.ts';
import { requestField } from '../http/request-field.ts';
import { toldClient } from '../http/vouched.ts';
import { keyOf } from '../inbound/plan.ts';

const lists = new WeakMap<Gateway, WeakMap<Service | Gateway, readonly PolicyTarget[]>>();

/**
 * What policies may be attached to for traffic like this. One list for each service, so that what is looked up by it
 * is not looked up again for each connection.
 */
export function targetsOf({
  gateway,
  service,
}: Pick<Downstream, 'gateway' | 'service'>): readonly PolicyTarget[] {
  let ofGateway = lists.get(gateway);
  if (ofGateway === undefined) lists.set(gateway, (ofGateway = new WeakMap()));
  let targets = ofGateway.get(service ?? gateway);
  if (targets === undefined) {
    targets = listOf(gateway, service);
    ofGateway.set(service ?? gateway, targets);
  }
  return targets;
}

function listOf(gateway: Gateway, service: Service | undefined): readonly PolicyTarget[] {
  return [
    { kind: 'gateway-class', name: gateway.className },
    { kind: 'gateway', namespace: gateway.namespace, name: gateway.name },
    ...(service === undefined ? [] : [{ kind: 'service', service: keyOf(service) } as const]),
    ...(service?.entry === undefined
      ? []
      : [
          {
            kind: 'service-entry',
            namespace: service.namespace,
            name: service.entry.name,
          } as const,
        ]),
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
