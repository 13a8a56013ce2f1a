import type { Logger } from '@ambit/core';
import { causeChain } from '@ambit/core';
import type { Candidate, Link } from './handover.ts';
import { askOwner, offerNode } from './handover.ts';

/** What a program does while it has the node. */
export interface Tenure {
  /** Ends it, with what goes with the end of a program where it is that of the program. */
  stop(reason: 'ends' | 'hands-over'): Promise<void>;
}

export interface KeepOptions {
  /** Of the socket at which whoever has the node is asked for it. */
  readonly path: string;
  readonly name: string;
  /** Resolves once all is there that can be had beside another agent. */
  readonly prepare: () => Promise<void>;
  /** When the agent's pod was made, in milliseconds since 1970. */
  readonly madeAt: () => Promise<number>;
  /** Begins, and cleans up after itself and throws when the signal comes before it has. */
  readonly begin: (signal: AbortSignal) => Promise<Tenure>;
  readonly logger: Logger;
}

/** An agent that has its node, or waits for the one that has it. */
export interface Kept {
  stop(): Promise<void>;
}

/** More than an agent takes to stop, where it waits for an API server that is slow to answer. */
const handoverMs = 30_000;
const answerMs = 2_000;
/** Whoever ended may have given the node to another one, which is about to answer. */
const vacantMs = 1_000;
const lookMs = 100;

/**
 * One agent at a time has a node: its sockets, its ports, the rules in its pods. One that comes while another has it takes it
 * over only when it could go on at once, so that a version that cannot work leaves the node to the one that can; that
 * one stands by until its process is ended, and takes the node back when the other is gone before.
 */
export async function keepNode(options: KeepOptions): Promise<Kept> {
  const keeper = new Keeper(options);
  await keeper.start();
  return keeper;
}

class Keeper implements Kept {
  readonly #options: KeepOptions;
  readonly #links = new Set<Link>();
  #offer: { close(): void } | undefined;
  #tenure: Tenure | undefined;
  #beginning: { readonly abort: AbortController; readonly over: Promise<unknown> } | undefined;
  #giving: Promise<void> | undefined;
  #ended = false;

  constructor(options: KeepOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const link = await this.#takeOver();
    if (link === undefined || link.yours) await this.#own();
    else this.#standBy(link.owner, link.ended);
  }

  async stop(): Promise<void> {
    this.#ended = true;
    for (const link of this.#links) link.close();
    this.#offer?.close();
    this.#beginning?.abort.abort();
    await Promise.all([this.#beginning?.over, this.#giving]);
    await this.#tenure?.stop('ends');
  }

  async #takeOver(): Promise<Link | undefined> {
    const { path, name, prepare, madeAt, logger } = this.#options;
    const other = await askOwner(path, 'who', { name, since: 0 }, answerMs);
    if (other === undefined) return undefined;
    other.close();
    logger.info(
      { agent: other.owner },
      'another agent has this node; it goes on until this one can',
    );
    await prepare();
    const since = await madeAt();
    const link = await askOwner(path, 'take-over', { name, since }, handoverMs);
    if (link === undefined) return undefined;
    if (link.yours) logger.info({ agent: other.owner }, 'took the node over');
    return this.#keep(link);
  }

  async #own(): Promise<void> {
    const { path, name, logger } = this.#options;
    this.#giving = undefined;
    this.#offer = await offerNode({
      path,
      name,
      give: (to) => this.#give(to),
      given: (to, ended) => {
        logger.info({ agent: to.name }, 'gave the node to another agent; standing by');
        this.#standBy(to.name, ended);
      },
    });
    const abort = new AbortController();
    const begun = this.#begin(abort.signal);
    this.#beginning = { abort, over: begun.catch(() => undefined) };
    await begun;
  }

  async #begin(signal: AbortSignal): Promise<void> {
    try {
      this.#tenure = await this.#options.begin(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#offer?.close();
      throw error;
    } finally {
      this.#beginning = undefined;
    }
  }

  async #give(to: Candidate): Promise<boolean> {
    const { madeAt, logger } = this.#options;
    // One that cannot even say how old it is has nothing that it could go on with.
    const since = await within(answerMs, madeAt(), -Infinity);
    if (this.#ended || this.#giving !== undefined) return false;
    if (to.since < since) {
      logger.info({ agent: to.name }, 'an agent of an older pod asked for this node; it stands by');
      return false;
    }
    logger.info({ agent: to.name }, 'a newer agent takes this node over');
    const giving = this.#letGo();
    this.#giving = giving;
    // An agent that could not let go is neither: unhandled, it ends the program, which begins anew.
    void giving.catch((error: unknown) => {
      throw error;
    });
    await giving;
    return true;
  }

  async #letGo(): Promise<void> {
    this.#beginning?.abort.abort();
    await this.#beginning?.over;
    const tenure = this.#tenure;
    this.#tenure = undefined;
    await tenure?.stop('hands-over');
  }

  /** Until the one that has the node is gone, and nobody else has it. */
  #standBy(owner: string, ended: Promise<void>): void {
    const { logger } = this.#options;
    logger.debug({ agent: owner }, 'standing by');
    void ended
      .then(() => this.#next())
      .then((next) => {
        if (this.#ended) return undefined;
        if (next !== undefined) {
          this.#standBy(next.owner, next.ended);
          return;
        }
        logger.warn({ agent: owner }, 'the agent that had this node is gone; taking the node back');
        return this.#own();
      });
  }

  async #next(): Promise<Link | undefined> {
    const { path, name, logger } = this.#options;
    const deadlineMs = performance.now() + vacantMs;
    while (!this.#ended && performance.now() < deadlineMs) {
      const link = await askOwner(path, 'stand-by', { name, since: 0 }, answerMs).catch(
        (error: unknown) => {
          logger.debug({ reason: causeChain(error) }, 'the agent of this node gave no answer');
          return undefined;
        },
      );
      if (link !== undefined) return this.#keep(link);
      await after(lookMs);
    }
    return undefined;
  }

  #keep(link: Link): Link {
    this.#links.add(link);
    void link.ended.then(() => this.#links.delete(link));
    return link;
  }
}

/** What the promise gives, or the other where that takes too long or fails. */
async function within<T>(ms: number, promise: Promise<T>, other: T): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<T>((resolve) => (timer = setTimeout(() => resolve(other), ms)));
  try {
    return await Promise.race([promise.catch(() => other), late]);
  } finally {
    clearTimeout(timer);
  }
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
