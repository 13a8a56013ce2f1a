import { leftAnnotation, meshStateLabel } from '@ambit/api';
import { MeshError } from '@ambit/core';

import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import type { Log } from '../log.ts';
import { patchLabel } from './label.ts';

export interface ReleaseOptions {
  readonly client: KubeClient;
  readonly rootNamespace: string;
  readonly timeoutMs: number;
  readonly log: Log;
}

const pauseMs = 1_000;

/**
 * Before the programs go: asks every node agent to release its pods and to take its plugin away, and waits until each
 * says that it has. Where one does not in time, it is called off. So new connections go straight before there is nobody left who would take them.
 */
export async function releasePods(options: ReleaseOptions): Promise<void> {
  const { client, rootNamespace, timeoutMs, log } = options;
  await patchLabel(client, rootNamespace, meshStateLabel, 'leaving');
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const waiting = await agentsThatStay(client, rootNamespace);
    if (waiting.length === 0) return;
    if (performance.now() > deadlineMs) {
      // Nothing is uninstalled now: the agents that were quick take their pods back.
      await patchLabel(client, rootNamespace, meshStateLabel, null);
      throw new MeshError(
        'uninstall/not-released',
        `these node agents have not released their pods: ${waiting.join(', ')}; see their logs, and try again. ` +
          'Until then the mesh stays, on every node. To uninstall nevertheless: helm uninstall --no-hooks; pods that are captured there then have no connection until they are restarted',
      );
    }
    log.info({ waiting }, 'waiting for node agents to release their pods');
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** Agents that run and have not said that they are done, as `pod on node`. */
async function agentsThatStay(client: KubeClient, namespace: string): Promise<string[]> {
  const answer = await client.request({
    path: `/api/v1/namespaces/${namespace}/pods`,
    query: new Map([['labelSelector', 'app=cni-redirect']]),
  });
  return list(field(answer, 'items'))
    .filter((pod) => field(pod, 'metadata', 'annotations', leftAnnotation) !== 'true')
    .filter((pod) => text(field(pod, 'status', 'phase')) === 'Running')
    .map(
      (pod) => `${text(field(pod, 'metadata', 'name'))} on ${text(field(pod, 'spec', 'nodeName'))}`,
    );
}
