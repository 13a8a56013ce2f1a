import type { Logger } from '@ambit/core';
import { causeChain, createBackoff } from '@ambit/core';
import type { CoreV1Api } from '@kubernetes/client-node';
import type { WriteAccess } from './write-access.ts';
import { isForbidden } from './write-access.ts';
import { tryWrite } from './writes.ts';

export interface CheckWritingOptions {
  readonly core: CoreV1Api;
  readonly access: WriteAccess;
  /** The agent's own pod. */
  readonly self: { readonly namespace: string; readonly name: string | undefined };
  readonly logger: Logger;
}

const key = 'the pod of the agent';

/** Asks, before there is a pod to mark, whether the agent may mark one, and again for as long as it may not. */
export function checkWriting({ core, access, self, logger }: CheckWritingOptions): {
  close(): void;
} {
  const backoff = createBackoff(1_000, 10_000);
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const check = async (): Promise<void> => {
    try {
      await access.tried(key, () => tryWrite(core, self));
    } catch (error) {
      // Whatever else is wrong shows where it matters: when a pod is to be marked.
      if (!isForbidden(error)) {
        access.forget(key);
        return;
      }
      logger.warn({ reason: causeChain(error) }, 'the agent may not patch pods');
      if (!closed) timer = setTimeout(() => void check(), backoff.nextMs());
    }
  };
  void check();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
