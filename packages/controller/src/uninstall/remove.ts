import { gatewayManagedLabel, rootCertConfigMap } from '@ambit/api';

import { authorityMemory } from '../ca/memory.ts';
import { selfSignedSecret } from '../ca/store.ts';
import { managedBy } from '../kube/decode/owner.ts';
import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Log } from '../log.ts';
import { leaseName } from '../writers.ts';
import { answeringNodes } from './nodes.ts';

export interface RemoveOptions {
  readonly client: KubeClient;
  readonly rootNamespace: string;
  readonly timeoutMs: number;
  readonly keepAuthority: boolean;
  /** Those of the controller, by which its Lease is named. */
  readonly revision: string;
  readonly defaultRevision: string;
  readonly log: Log;
}

const pauseMs = 500;
const pageSize = '500';

/**
 * After the programs went: removes what the controller made in other namespaces and helm does not know of. Resources
 * that users wrote stay, and so does an authority that they plugged in.
 */
export async function removeTraces(options: RemoveOptions): Promise<void> {
  const { client, rootNamespace, log } = options;
  await controllersGone(options);
  const managed = `${gatewayManagedLabel}=${managedBy}`;
  const own = `/namespaces/${rootNamespace}`;
  const traces: readonly Trace[] = [
    { api: '/apis/apps/v1', plural: 'deployments', labelSelector: managed },
    { api: '/api/v1', plural: 'services', labelSelector: managed },
    { api: '/api/v1', plural: 'serviceaccounts', labelSelector: managed },
    {
      api: '/api/v1',
      plural: 'configmaps',
      labelSelector: 'istio.io/config=true',
      name: rootCertConfigMap,
    },
    {
      api: '/apis/coordination.k8s.io/v1',
      within: own,
      plural: 'leases',
      name: leaseName(options),
    },
    ...(options.keepAuthority
      ? []
      : [
          { api: '/api/v1', within: own, plural: 'secrets', name: selfSignedSecret },
          { api: '/api/v1', within: own, plural: 'configmaps', name: authorityMemory },
        ]),
  ];
  const removed: Record<string, number> = {};
  for (const trace of traces)
    removed[trace.plural] = (removed[trace.plural] ?? 0) + (await remove(client, trace));
  log.info({ removed }, 'nothing of the mesh is left but the resources of its users');
}

interface Trace {
  readonly api: string;
  readonly plural: string;
  /** Path of the only namespace that is looked at. */
  readonly within?: string;
  readonly labelSelector?: string;
  readonly name?: string;
}

/** A controller that still runs would make all of it again. */
async function controllersGone({ client, rootNamespace, timeoutMs, log }: RemoveOptions) {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const answer = await client.request({
      path: `/api/v1/namespaces/${rootNamespace}/pods`,
      query: new Map([['labelSelector', 'app=ambit-controller']]),
    });
    const pods = list(field(answer, 'items'));
    if (pods.length === 0) return;
    const answering = await answeringNodes(client);
    const left = pods
      .filter((pod) => answering.has(text(field(pod, 'spec', 'nodeName'))))
      .map((pod) => text(field(pod, 'metadata', 'name')));
    if (left.length === 0) return;
    if (performance.now() > deadlineMs) {
      log.warn({ left }, 'a controller still runs and may make again what is removed now');
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

async function remove(client: KubeClient, trace: Trace): Promise<number> {
  const { api, plural, within = '', labelSelector, name } = trace;
  let removed = 0;
  let next = '';
  do {
    const answer = await client.request({
      path: `${api}${within}/${plural}`,
      query: new Map([
        ['limit', pageSize],
        ...(labelSelector === undefined ? [] : [['labelSelector', labelSelector] as const]),
        ...(name === undefined ? [] : [['fieldSelector', `metadata.name=${name}`] as const]),
        ...(next === '' ? [] : [['continue', next] as const]),
      ]),
    });
    for (const object of list(field(answer, 'items'))) {
      const found = text(field(object, 'metadata', 'name'));
      if (name !== undefined && found !== name) continue;
      const namespace = text(field(object, 'metadata', 'namespace'));
      await removeOne(client, `${api}/namespaces/${namespace}/${plural}/${found}`);
      removed += 1;
    }
    next = text(field(answer, 'metadata', 'continue'));
  } while (next !== '');
  return removed;
}

async function removeOne(client: KubeClient, path: string): Promise<void> {
  try {
    const query = new Map([['propagationPolicy', 'Background']]);
    await client.request({ method: 'DELETE', path, query });
  } catch (error) {
    if (kubeStatus(error) !== 404) throw error;
  }
}
