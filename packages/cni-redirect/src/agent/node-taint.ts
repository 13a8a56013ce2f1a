import type { Logger } from '@ambit/core';
import { causeChain, createBackoff } from '@ambit/core';
import type { CoreV1Api, KubeConfig, V1Node } from '@kubernetes/client-node';
import type { BootMark } from './boot-mark.ts';
import { follow } from './kube/follow.ts';
import { notReadyTaint, setTaint } from './kube/writes.ts';

export interface NodeTaintOptions {
  readonly config: KubeConfig;
  readonly core: CoreV1Api;
  readonly node: string;
  /** Whether the node takes pods; asked again and again while it matters. */
  readonly isReady: () => boolean;
  /** Whether it has done so since it was booted. */
  readonly mark: BootMark;
  readonly logger: Logger;
}

export interface NodeState {
  readonly tainted: boolean;
  readonly ready: boolean;
  /** Whether the node was ready at any time since it was booted. */
  readonly wasReady: boolean;
}

/**
 * Whether the taint is to be put on the node or taken from it. It is put on one that has just been booted: whoever made
 * the node's pool tainted it once, when it was new. A node that was ready stays untainted while its agent is replaced:
 * new pods wait on it for so long, and nobody moves away.
 */
export function decideTaint({ tainted, ready, wasReady }: NodeState): 'put' | 'take' | undefined {
  if (ready) return tainted ? 'take' : undefined;
  return tainted || wasReady ? undefined : 'put';
}

const checkMs = 250;

/** Keeps `cni.istio.io/not-ready` on the node from its boot until its agent is ready, and no longer. */
export function keepTaint(options: NodeTaintOptions): { close(): void } {
  const { config, core, node, isReady, mark, logger } = options;
  const backoff = createBackoff(checkMs, 30_000);
  let tainted: boolean | undefined;
  let timer: NodeJS.Timeout | undefined;
  let busy = false;
  let closed = false;
  const bringAbout = async (was: boolean): Promise<void> => {
    const ready = isReady();
    const change = decideTaint({ tainted: was, ready, wasReady: mark.isSet });
    if (change !== undefined) {
      await setTaint(core, node, change === 'put');
      tainted = change === 'put';
      logger.info({ taint: notReadyTaint }, told[change]);
    }
    if (ready) mark.set();
  };
  const check = async (): Promise<void> => {
    if (busy || tainted === undefined) return;
    busy = true;
    let waitMs = checkMs;
    try {
      await bringAbout(tainted);
      backoff.reset();
    } catch (error) {
      waitMs = backoff.nextMs();
      logger.warn(
        { reason: causeChain(error), retryMs: Math.round(waitMs) },
        'the taint of the node could not be changed',
      );
    } finally {
      busy = false;
    }
    if (tainted || !mark.isSet) again(waitMs);
  };
  const again = (waitMs: number): void => {
    clearTimeout(timer);
    if (!closed) timer = setTimeout(() => void check(), waitMs);
  };
  const see = (seen: V1Node | undefined): void => {
    tainted = seen && (seen.spec?.taints ?? []).some(({ key }) => key === notReadyTaint);
    again(0);
  };
  const fieldSelector = `metadata.name=${node}`;
  const follower = follow<V1Node>({
    config,
    path: '/api/v1/nodes',
    query: { fieldSelector },
    list: () => core.listNode({ fieldSelector }),
    onList: ([found]) => see(found),
    onChange: see,
    onDelete: () => see(undefined),
    logger,
  });
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      follower.close();
    },
  };
}

const told = {
  put: 'the node was booted: it is tainted until pods can be captured',
  take: 'the node takes pods: its taint is removed',
} as const;
