import { gatewayManagedLabel, gatewayNameLabel, hbonePort } from '@ambit/api';

import type { KubeClient } from '../kube/client.ts';
import { field, list, objectKey, text } from '../kube/decode/fields.ts';
import { gatewayUidOf, istioGatewayUidOf } from '../kube/decode/owner.ts';
import { KubeError, kubeStatus } from '../kube/error.ts';
import { defaultLeaseName } from '../lease/record.ts';
import type { Deployed } from './objects.ts';

/** On what is deployed: the fencing token of the term in which it was written. */
export const termAnnotation = 'ambit.dev/term';

/** Beside it: the Lease of which the term is, where it is not that of the default revision. */
export const leaseAnnotation = 'ambit.dev/lease';

/** Who writes: a term of a Lease. Terms of different Leases are not comparable. */
export interface Fence {
  readonly lease: string;
  readonly token: number;
}

const fieldManager = 'ambit-gateway-deployer';

/** An object that is to be applied, and what stands under its name now. */
export interface Standing {
  readonly wanted: Deployed;
  readonly found: unknown;
}

export async function standingOf(
  client: KubeClient,
  objects: readonly Deployed[],
): Promise<readonly Standing[]> {
  const standing: Standing[] = [];
  for (const wanted of objects)
    standing.push({ wanted, found: await read(client, pathOf(wanted)) });
  return standing;
}

/** Pure: the objects that bear the Gateway's name and were not deployed for it: they are never touched. */
export function inTheWay(standing: readonly Standing[], gatewayUid: string): readonly string[] {
  return standing
    .filter(({ found }) => found !== undefined && gatewayUidOf(found) !== gatewayUid)
    .filter((one) => !isAccountOfIstio(one, gatewayUid))
    .map(({ wanted: { object } }) => `${object.kind} ${objectKey(object.metadata)}`);
}

/**
 * The ServiceAccount that Istio made for the same Gateway goes on, with what its users gave it. A Deployment of Istio's would
 * keep what only Istio's proxy understands, and its Service goes with it.
 */
function isAccountOfIstio({ wanted, found }: Standing, gatewayUid: string): boolean {
  return wanted.object.kind === 'ServiceAccount' && istioGatewayUidOf(found) === gatewayUid;
}

/** Pure: whether a controller of another revision has written any of it. */
export function changesHands(standing: readonly Standing[], lease: string): boolean {
  return standing.some(({ found }) => found !== undefined && leaseOf(found) !== lease);
}

function leaseOf(found: unknown): string {
  const named = text(field(found, 'metadata', 'annotations', leaseAnnotation));
  return named === '' ? defaultLeaseName : named;
}

function markOf({ lease, token }: Fence): Readonly<Record<string, string>> {
  const term = { [termAnnotation]: String(token) };
  return lease === defaultLeaseName ? term : { ...term, [leaseAnnotation]: lease };
}

/**
 * Applies an object, on exactly the version that was looked at, and never over what a later term has written: a
 * controller that was stopped for a while and does not know yet that another writes now changes nothing. Answers what
 * stands then.
 */
export async function applyFenced(
  client: KubeClient,
  { wanted, found }: Standing,
  fence: Fence,
): Promise<unknown> {
  const path = pathOf(wanted);
  const before = Number(text(field(found, 'metadata', 'annotations', termAnnotation)));
  if (before > fence.token && leaseOf(found) === fence.lease) {
    throw new KubeError(`${path}: written in term ${before}, and this is term ${fence.token}`, {
      status: 409,
      reason: 'Fenced',
    });
  }
  const { object } = wanted;
  const { annotations } = object.metadata;
  const claimed = found ?? (await claim(client, wanted, markOf(fence)));
  const resourceVersion = text(field(claimed, 'metadata', 'resourceVersion'));
  return client.request({
    method: 'PATCH',
    path,
    query: new Map([
      ['fieldManager', fieldManager],
      // What is not there yet is nobody's; whoever makes it meanwhile keeps it.
      ...(claimed === undefined ? [] : [['force', 'true'] as const]),
    ]),
    contentType: 'application/apply-patch+yaml',
    body: {
      ...object,
      metadata: {
        ...object.metadata,
        annotations: { ...annotations, ...markOf(fence) },
        ...(resourceVersion === '' ? {} : { resourceVersion }),
      },
    },
  });
}

/**
 * Creates what an apply would silently add itself to, were another to make it in the same moment: a ServiceAccount or a
 * Service has nothing that two need differ in. A Deployment has: its selector and its containers. No more than there must
 * be: what is created is the creator's for good, and what a Gateway or its ConfigMap adds goes away again only where an
 * apply has brought it.
 */
async function claim(
  client: KubeClient,
  { collection, object }: Deployed,
  mark: Readonly<Record<string, string>>,
): Promise<unknown> {
  if (object.kind === 'Deployment') return undefined;
  const { name, namespace, labels, ownerReferences } = object.metadata;
  const { apiVersion, kind } = object;
  return client.request({
    method: 'POST',
    path: collection,
    query: new Map([['fieldManager', fieldManager]]),
    body: {
      apiVersion,
      kind,
      ...(kind === 'Service' ? { spec: leastOfService(object) } : {}),
      metadata: {
        name,
        namespace,
        annotations: mark,
        labels: {
          [gatewayNameLabel]: labels[gatewayNameLabel],
          [gatewayManagedLabel]: labels[gatewayManagedLabel],
        },
        ownerReferences,
      },
    },
  });
}

/** What cannot be changed later, and the one port that a Service needs and a waypoint always has. */
const unchangeable = ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'] as const;

function leastOfService(object: unknown): Readonly<Record<string, unknown>> {
  const spec = field(object, 'spec');
  const kept = unchangeable
    .map((name) => [name, field(spec, name)] as const)
    .filter(([, value]) => value !== undefined);
  const ports = list(field(spec, 'ports')).filter((one) => field(one, 'port') === hbonePort);
  return { ...Object.fromEntries(kept), ports };
}

function pathOf({ collection, object }: Deployed): string {
  return `${collection}/${object.metadata.name}`;
}

async function read(client: KubeClient, path: string): Promise<unknown> {
  try {
    return await client.request({ path });
  } catch (error) {
    if (kubeStatus(error) === 404) return undefined;
    throw error;
  }
}
