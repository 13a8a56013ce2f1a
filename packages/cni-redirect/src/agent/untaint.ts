import type { Logger } from '@ambit/core';
import { causeChain, createBackoff } from '@ambit/core';
import type { CoreV1Api, KubeConfig, V1Node } from '@kubernetes/client-node';
import { follow } from './kube/follow.ts';
import { notReadyTaint, removeTaint } from './kube/writes.ts';

export interface UntaintOptions {
  readonly config: KubeConfig;
  readonly core: CoreV1Api;
  readonly node: string;
  /** Asked again and again while the node is tainted. */
  readonly isReady: () => boolean;
  readonly logger: Logger;
}

const readyCheckMs = 250;

/** Takes `cni.istio.io/not-ready` from the node whenever it is there and the agent is ready. */
export function keepUntainted(options: UntaintOptions): { close(): void } {
  const { config, core, node, isReady, logger } = options;
  const backoff = createBackoff(readyCheckMs, 30_000);
  let tainted: V1Node | undefined;
  let timer: NodeJS.Timeout | undefined;
  const check = async (): Promise<void> => {
    if (tainted === undefined) return;
    let waitMs = readyCheckMs;
    if (isReady()) {
      try {
        await removeTaint(core, tainted);
        logger.info({ taint: notReadyTaint }, 'the node takes pods: its taint is removed');
        return;
      } catch (error) {
        waitMs = backoff.nextMs();
        logger.warn(
          { reason: causeChain(error), retryMs: Math.round(waitMs) },
          'the taint of the node could not be removed',
        );
      }
    }
    again(waitMs);
  };
  const again = (waitMs: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => void check(), waitMs);
  };
  const see = (seen: V1Node): void => {
    const is = (seen.spec?.taints ?? []).some(({ key }) => key === notReadyTaint);
    tainted = is ? seen : undefined;
    if (is) again(0);
    else backoff.reset();
  };
  const fieldSelector = `metadata.name=${node}`;
  const follower = follow<V1Node>({
    config,
    path: '/api/v1/nodes',
    query: { fieldSelector },
    list: () => core.listNode({ fieldSelector }),
    onList: (nodes) => nodes.forEach(see),
    onChange: see,
    onDelete: () => (tainted = undefined),
    logger,
  });
  return {
    close() {
      tainted = undefined;
      clearTimeout(timer);
      follower.close();
    },
  };
}
