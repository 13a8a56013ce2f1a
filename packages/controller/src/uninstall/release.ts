import { agentDaemonSet, leavingAnnotation, leftAnnotation } from '@ambit/api';
import { MeshError, causeChain } from '@ambit/core';

import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Log } from '../log.ts';
import { someCapturedPod } from './captured.ts';
import { answeringNodes } from './nodes.ts';

export interface ReleaseOptions {
  readonly client: KubeClient;
  readonly rootNamespace: string;
  readonly timeoutMs: number;
  /** When whoever runs this is told to end. */
  readonly signal: AbortSignal;
  readonly log: Log;
}

const pauseMs = 1_000;

/**
 * Before the programs go: asks every node agent to release its pods and to take its plugin away, and waits until each says
 * that it has. So new connections go straight before there is nobody left who would take them. What asks them is on their
 * DaemonSet and ends with it. Where an agent does not leave in time, it is called off.
 */
export async function releasePods(options: ReleaseOptions): Promise<void> {
  const { client, rootNamespace, log } = options;
  try {
    await ask(client, rootNamespace, 'true');
  } catch (error) {
    if (kubeStatus(error) !== 404) throw error;
    await assertNoneCaptured(client);
    log.warn(
      { daemonSet: agentDaemonSet },
      'there are no node agents to release pods; if somebody deleted them, nodes still have the plugin and new pods wait: install again, and uninstall',
    );
    return;
  }
  try {
    await allLeft(options);
  } catch (error) {
    // Nothing is uninstalled now: the agents that were quick take their pods back.
    await ask(client, rootNamespace, null).catch((failed: unknown) =>
      log.error(
        { reason: causeChain(failed) },
        `could not be called off; do it with: kubectl annotate -n ${rootNamespace} daemonset ${agentDaemonSet} ${leavingAnnotation}-`,
      ),
    );
    throw error;
  }
}

/** Without agents nobody would release them, and without the node proxy they would have no connection. */
async function assertNoneCaptured(client: KubeClient): Promise<void> {
  const captured = await someCapturedPod(client);
  if (captured === undefined) return;
  throw new MeshError(
    'uninstall/no-agents',
    `the DaemonSet ${agentDaemonSet} was deleted, and pods such as ${captured} are still captured: nobody is there to release them. ` +
      'Bring it back with helm rollback RELEASE REVISION (helm history names the last that ran), and uninstall then. To uninstall nevertheless: helm uninstall --no-hooks; those pods then have no connection until they are restarted, and new pods of their nodes wait',
  );
}

async function ask(client: KubeClient, namespace: string, leaving: string | null): Promise<void> {
  await client.request({
    method: 'PATCH',
    path: `/apis/apps/v1/namespaces/${namespace}/daemonsets/${agentDaemonSet}`,
    contentType: 'application/merge-patch+json',
    body: { metadata: { annotations: { [leavingAnnotation]: leaving } } },
  });
}

async function allLeft({ client, rootNamespace, timeoutMs, signal, log }: ReleaseOptions) {
  const deadlineMs = performance.now() + timeoutMs;
  let told = '';
  for (;;) {
    const { waiting, unreachable, left } = await agentsThatStay(client, rootNamespace);
    // Where no agent runs, none says that it has not left.
    const alone = waiting.length === 0 ? await someCapturedPod(client, left) : undefined;
    if (waiting.length === 0 && alone === undefined) {
      if (unreachable.length > 0)
        log.warn(
          { agents: unreachable },
          'these agents are on nodes that do not answer and are not waited for; a node that comes back keeps the plugin, ' +
            'and its new pods wait, until ambit-cni is taken out of its CNI configuration',
        );
      return;
    }
    const what =
      alone === undefined
        ? `these node agents have not released their pods: ${waiting.join(', ')}; see their logs, and try again`
        : `pods such as ${alone} are still captured, and no agent runs there; see why its pod does not start, or whether nodeSelector, affinity and tolerations of cni-redirect keep it away`;
    if (signal.aborted)
      throw new MeshError(
        'uninstall/ended',
        `ended before all pods were released; the mesh stays, on every node: ${what}`,
      );
    if (performance.now() > deadlineMs)
      throw new MeshError(
        'uninstall/not-released',
        `${what}. ` +
          'Until then the mesh stays, on every node. To uninstall nevertheless: helm uninstall --no-hooks; pods that are captured there then have no connection until they are restarted',
      );
    if (told !== what)
      log.info({ waiting: alone ?? waiting }, 'waiting for node agents to release their pods');
    told = what;
    await pause(signal);
  }
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, pauseMs);
    signal.addEventListener('abort', over);
  });
}

interface Staying {
  readonly waiting: readonly string[];
  /** On nodes whose kubelet is silent, or that are no more. */
  readonly unreachable: readonly string[];
  /** Nodes that have left the mesh. */
  readonly left: ReadonlySet<string>;
}

/** Agents that run on nodes where none has said that it is done, as `pod on node`: of two, one stands by. */
async function agentsThatStay(client: KubeClient, namespace: string): Promise<Staying> {
  const pods = await client.request({
    path: `/api/v1/namespaces/${namespace}/pods`,
    query: new Map([['labelSelector', `app=${agentDaemonSet}`]]),
  });
  const agents = list(field(pods, 'items'))
    .filter((pod) => text(field(pod, 'status', 'phase')) === 'Running')
    .map((pod) => ({
      name: text(field(pod, 'metadata', 'name')),
      node: text(field(pod, 'spec', 'nodeName')),
      left: field(pod, 'metadata', 'annotations', leftAnnotation) === 'true',
    }));
  const left = new Set(agents.filter((agent) => agent.left).map(({ node }) => node));
  const staying = agents.filter(({ node }) => !left.has(node));
  if (staying.length === 0) return { waiting: [], unreachable: [], left };
  const answering = await answeringNodes(client);
  const told = ({ name, node }: { readonly name: string; readonly node: string }): string =>
    `${name} on ${node}`;
  return {
    waiting: staying.filter(({ node }) => answering.has(node)).map(told),
    unreachable: staying.filter(({ node }) => !answering.has(node)).map(told),
    left,
  };
}
