import type { IpAddress } from '@ambit/api';
import { ok, parseIp } from '@ambit/api';

import type { Decode } from '../cache.ts';
import type { Metadata } from './fields.ts';
import { field, list, text } from './fields.ts';

/** A condition's type, as in Istio. */
export const waypointBoundType = 'istio.io/WaypointBound';

export type PodPhase = 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';

export interface PodRecord {
  readonly meta: Metadata;
  readonly serviceAccount: string;
  /** Empty until the pod is scheduled. */
  readonly node: string;
  readonly hostNetwork: boolean;
  readonly phase: PodPhase;
  readonly addresses: readonly IpAddress[];
  /** Its condition says that it takes traffic. */
  readonly ready: boolean;
  /** Its status says to which waypoint it is bound, or that it is to none. */
  readonly tellsWaypoint: boolean;
  /** The controlling owner. */
  readonly owner: { readonly kind: string; readonly name: string } | undefined;
}

const phases: ReadonlySet<string> = new Set([
  'Pending',
  'Running',
  'Succeeded',
  'Failed',
  'Unknown',
]);

export const decodePod: Decode<PodRecord> = (object, meta) => {
  const spec = field(object, 'spec');
  const status = field(object, 'status');
  const phase = text(field(status, 'phase'));
  const serviceAccount = text(field(spec, 'serviceAccountName'));
  const conditions = list(field(status, 'conditions'));
  return ok({
    meta,
    serviceAccount: serviceAccount === '' ? 'default' : serviceAccount,
    node: text(field(spec, 'nodeName')),
    hostNetwork: field(spec, 'hostNetwork') === true,
    phase: phases.has(phase) ? (phase as PodPhase) : 'Unknown',
    addresses: podAddresses(status),
    ready: conditions.some(
      (one) => text(field(one, 'type')) === 'Ready' && text(field(one, 'status')) === 'True',
    ),
    tellsWaypoint: conditions.some((one) => text(field(one, 'type')) === waypointBoundType),
    owner: controllingOwner(object),
  });
};

function podAddresses(status: unknown): readonly IpAddress[] {
  const told = list(field(status, 'podIPs')).map((entry) => text(field(entry, 'ip')));
  const all = told.length > 0 ? told : [text(field(status, 'podIP'))];
  const addresses = new Set<IpAddress>();
  for (const one of all) {
    const ip = parseIp(one);
    if (ip.ok) addresses.add(ip.value);
  }
  return [...addresses];
}

function controllingOwner(object: unknown): PodRecord['owner'] {
  const owners = list(field(object, 'metadata', 'ownerReferences'));
  const owner = owners.find((one) => field(one, 'controller') === true);
  const kind = text(field(owner, 'kind'));
  const name = text(field(owner, 'name'));
  return kind === '' || name === '' ? undefined : { kind, name };
}
