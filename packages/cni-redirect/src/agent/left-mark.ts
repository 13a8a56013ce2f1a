import type { Logger } from '@ambit/core';
import { causeChain } from '@ambit/core';
import type { CoreV1Api } from '@kubernetes/client-node';
import type { AgentConfig } from './config.ts';
import { annotateSelf } from './kube/writes.ts';

export interface LeftMarkOptions extends Pick<AgentConfig, 'self'> {
  readonly core: CoreV1Api;
  readonly logger: Logger;
}

/** An API server that is slow keeps no node waiting. */
const takeBackMs = 2_000;
const setMs = 5_000;

/** The mark `ambit.dev/left` of the agent's own pod: an uninstall takes a node for done where an agent of it has one. */
export class LeftMark {
  readonly #options: LeftMarkOptions;

  constructor(options: LeftMarkOptions) {
    this.#options = options;
  }

  /** Says whether the agent has let go of everything on its node. */
  set(left: boolean): Promise<void> {
    return this.#within(setMs, left);
  }

  /** Of the node as it was, where that can be done soon: another agent has it from now on, or this one again. */
  async takeBack(): Promise<void> {
    try {
      await this.#within(takeBackMs, false);
    } catch (error) {
      this.#options.logger.warn(
        { reason: causeChain(error) },
        'the annotation ambit.dev/left of this agent could not be taken back; while it is there an uninstall does not wait for the node',
      );
    }
  }

  async #within(ms: number, left: boolean): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${ms} ms`)), ms);
    });
    try {
      await Promise.race([annotateSelf(this.#options.core, this.#options.self, left), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
