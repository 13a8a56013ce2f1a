import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stateKeyName } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { causeChain, createBackoff } from '@ambit/core';
import type { Installation } from '../install/install.ts';
import { renderNodeRemoval } from '../rules/node.ts';
import { runOnNode } from '../rules/run.ts';
import { bootMarkFile } from './boot-mark.ts';
import type { AgentConfig } from './config.ts';
import { stopDrainMs } from './config.ts';
import { handoverSocketName } from './handover.ts';
import { lockOf } from './keep.ts';
import type { Pods } from './pods.ts';
import { recordsFile } from './records.ts';

export interface LeaveOptions {
  readonly installation: Installation;
  readonly pods: Pods;
  /** Says on the agent's own pod that it has let go of everything on its node. */
  readonly sayLeft: (left: boolean) => Promise<void>;
  /** Whether the mesh was leaving when the agent began. */
  readonly leaving: boolean;
  readonly logger: Logger;
}

/** With everything still running only short connections are waited for; long ones go on until the proxy ends. */
const askedDrainMs = 3_000;

/** Takes the mesh off a node and, if it is wanted back, puts it on again. One after the other, whatever is asked. */
export class Leave {
  readonly #options: LeaveOptions;
  #wanted = false;
  #left = false;
  #said = false;
  #closed = false;
  #end = (): void => undefined;
  readonly #ending = new Promise<void>((resolve) => (this.#end = resolve));
  #work = Promise.resolve();

  constructor(options: LeaveOptions) {
    this.#options = options;
    this.ask(options.leaving);
  }

  /** Whether nothing of the mesh is on the node any more. */
  get hasLeft(): boolean {
    return this.#left;
  }

  /** The mesh is being uninstalled, or that was called off. */
  ask(leave: boolean): void {
    if (leave === this.#wanted) return;
    this.#wanted = leave;
    this.#work = this.#work.then(() => this.#bringAbout());
  }

  /** The agent ends; with `forGood` nothing of the mesh stays behind. */
  async stop(forGood: boolean): Promise<void> {
    this.#closed = true;
    this.#end();
    await this.#work;
    if (!forGood) return;
    if (this.#left) await this.#options.pods.leave(stopDrainMs, true);
    else await this.#leave(stopDrainMs, true);
  }

  async #bringAbout(): Promise<void> {
    const { installation, pods, sayLeft, logger } = this.#options;
    const backoff = createBackoff(250, 5_000);
    while (!this.#isSo() && !this.#closed) {
      try {
        if (this.#wanted && !this.#left) await this.#leave(askedDrainMs, false);
        else if (!this.#wanted && this.#left) {
          await installation.resume();
          pods.stay();
          this.#left = false;
        }
        const left = this.#left;
        await sayLeft(left);
        this.#said = left;
      } catch (error) {
        const waitMs = backoff.nextMs();
        logger.warn(
          { reason: causeChain(error) },
          'the mesh could not leave this node or come back',
        );
        await Promise.race([new Promise((resolve) => setTimeout(resolve, waitMs)), this.#ending]);
      }
    }
  }

  /** Whether all is as it is wanted, and said. */
  #isSo(): boolean {
    return this.#wanted === this.#left && this.#said === this.#left;
  }

  /** First no new pod comes to it, then those that are in it are let go. */
  async #leave(drainMs: number, force: boolean): Promise<void> {
    const { installation, pods, logger } = this.#options;
    logger.info('the mesh leaves this node');
    await installation.uninstall();
    await pods.leave(drainMs, force);
    await runOnNode(renderNodeRemoval());
    this.#left = true;
    logger.info('the mesh has left this node');
  }
}

/**
 * The last of a mesh that is uninstalled: the list of captured pods, the mark of the boot, and the key without which nobody opens what the
 * node's proxy has left on the disk. A proxy that runs still goes on and keeps what it knows in memory.
 */
export function removeFiles({
  stateDir,
  ztunnelSocket,
}: Pick<AgentConfig, 'stateDir' | 'ztunnelSocket'>): void {
  for (const file of [
    recordsFile(stateDir),
    bootMarkFile(stateDir),
    lockOf(join(stateDir, handoverSocketName)),
    join(dirname(ztunnelSocket), stateKeyName),
  ])
    rmSync(file, { force: true });
}
