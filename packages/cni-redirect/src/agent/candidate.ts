import { access } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from '@ambit/core';
import { MeshError, causeChain, createBackoff } from '@ambit/core';
import { AppsV1Api, CoreV1Api } from '@kubernetes/client-node';
import type { KubeConfig } from '@kubernetes/client-node';
import { installObstacle } from '../install/install.ts';
import type { AgentConfig } from './config.ts';
import type { KeepOptions } from './keep.ts';
import { tryWrite } from './kube/writes.ts';
import { checkRequirements } from './requirements.ts';

/** Whether an agent could have its node: what it can find out while another one has it. */
export function candidateOf(
  config: AgentConfig,
  { kube, logger }: { readonly kube: KubeConfig; readonly logger: Logger },
): Pick<KeepOptions, 'name' | 'prepare' | 'madeAt'> {
  const core = kube.makeApiClient(CoreV1Api);
  const { node, self, daemonSet } = config;
  const madeAt = async (): Promise<number> => {
    const { namespace, name } = self;
    if (name === undefined) return performance.timeOrigin;
    const { metadata } = await core.readNamespacedPod({ namespace, name });
    return metadata?.creationTimestamp?.getTime() ?? performance.timeOrigin;
  };
  let known: Promise<number> | undefined;
  const age = (): Promise<number> => {
    known ??= madeAt().catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  };
  const look = async (): Promise<void> => {
    await checkRequirements(config);
    await access(config.pluginSource);
    const obstacle = await installObstacle(config);
    if (obstacle !== undefined) throw new MeshError('agent/not-installable', obstacle);
    await core.listNamespace({ limit: 1 });
    await core.listPodForAllNamespaces({ fieldSelector: `spec.nodeName=${node}`, limit: 1 });
    await age();
    await tryWrite(core, self);
    if (config.taintNode) await core.readNode({ name: node });
    if (daemonSet !== undefined)
      await kube.makeApiClient(AppsV1Api).readNamespacedDaemonSet(daemonSet);
  };
  return {
    name: self.name ?? `agent ${process.pid}`,
    prepare: async (signal) => {
      const backoff = createBackoff(200, 10_000);
      while (!signal.aborted) {
        try {
          await look();
          return;
        } catch (error) {
          const waitMs = backoff.nextMs();
          logger.warn(
            { reason: causeChain(error), retryMs: Math.round(waitMs) },
            'this agent cannot take its node over yet',
          );
          await setTimeout(waitMs, undefined, { signal }).catch(() => undefined);
        }
      }
    },
    madeAt: age,
  };
}
