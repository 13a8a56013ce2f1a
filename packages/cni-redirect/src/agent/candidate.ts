import type { Logger } from '@ambit/core';
import { MeshError, causeChain, createBackoff } from '@ambit/core';
import { CoreV1Api } from '@kubernetes/client-node';
import type { KubeConfig } from '@kubernetes/client-node';
import { installObstacle } from '../install/install.ts';
import type { AgentConfig } from './config.ts';
import type { KeepOptions } from './keep.ts';
import { checkRequirements } from './requirements.ts';

/** Whether an agent could have its node: what it can find out while another one has it. */
export function candidateOf(
  config: AgentConfig,
  { kube, logger }: { readonly kube: KubeConfig; readonly logger: Logger },
): Pick<KeepOptions, 'name' | 'prepare' | 'madeAt'> {
  const core = kube.makeApiClient(CoreV1Api);
  const { node, self } = config;
  const look = async (): Promise<void> => {
    await checkRequirements(config);
    const obstacle = await installObstacle(config);
    if (obstacle !== undefined) throw new MeshError('agent/not-installable', obstacle);
    await core.listNamespace({ limit: 1 });
    await core.listPodForAllNamespaces({ fieldSelector: `spec.nodeName=${node}`, limit: 1 });
  };
  const madeAt = async (): Promise<number> => {
    const { namespace, name } = self;
    if (name === undefined) return performance.timeOrigin;
    const { metadata } = await core.readNamespacedPod({ namespace, name });
    return metadata?.creationTimestamp?.getTime() ?? performance.timeOrigin;
  };
  let known: Promise<number> | undefined;
  return {
    name: self.name ?? `agent ${process.pid}`,
    prepare: async () => {
      const backoff = createBackoff(200, 10_000);
      for (;;) {
        try {
          await look();
          return;
        } catch (error) {
          const waitMs = backoff.nextMs();
          logger.warn(
            { reason: causeChain(error), retryMs: Math.round(waitMs) },
            'this agent cannot take its node over yet',
          );
          await new Promise((resolve) => setTimeout(resolve, waitMs));
        }
      }
    },
    madeAt: () => {
      known ??= madeAt().catch((error: unknown) => {
        known = undefined;
        throw error;
      });
      return known;
    },
  };
}
