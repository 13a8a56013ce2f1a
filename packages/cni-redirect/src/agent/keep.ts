import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { FileLock, Logger } from '@ambit/core';
import { MeshError, errnoCode, tryLockFile } from '@ambit/core';
import type { Candidate, Given, Link, Offer } from './handover.ts';
import { askOwner, offerNode } from './handover.ts';

/** Why an agent's time with its node is over: it ends alone, or beside one that stands by, or another one takes over. */
export type StopReason = 'ends' | 'ends-beside-another' | 'hands-over';

/** What a program does while it has the node. */
export interface Tenure {
  stop(reason: StopReason): Promise<void>;
}

export interface KeepOptions {
  /** Of the socket at which whoever has the node is asked for it; beside it is the lock that says who that is. */
  readonly path: string;
  readonly name: string;
  /** Resolves once all is there that can be had beside another agent; ends with the signal when nobody waits for it. */
  readonly prepare: (signal: AbortSignal) => Promise<void>;
  /** When the agent's pod was made, in milliseconds since 1970. */
  readonly madeAt: () => Promise<number>;
  /** Begins, and cleans up after itself and throws when the signal comes before it has. */
  readonly begin: (signal: AbortSignal) => Promise<Tenure>;
  readonly logger: Logger;
}

/** An agent that has its node, or waits for it. */
export interface Kept {
  stop(): Promise<void>;
}

/** More than an agent may take to let go. */
const handoverMs = 30_000;
/** An agent that has not let go by then ends, and leaves the node to whoever asked. */
const letGoMs = 15_000;
const answerMs = 2_000;
const lookMs = 100;
/** The ports of one that was killed are free a moment after its lock. */
const portsMs = 3_000;

/**
 * One agent at a time has a node: its sockets, its ports, the rules in its pods. Whoever holds the lock has it. One that
 * comes while another has it takes it over only when it could go on at once, so that a version that cannot work leaves the
 * node to the one that can; that one stands by until its process is ended, and takes the node back when the other is gone
 * before. Resolves once the agent has begun for the first time.
 */
export async function keepNode(options: KeepOptions): Promise<Kept> {
  const keeper = new Keeper(options);
  mkdirSync(dirname(options.path), { recursive: true, mode: 0o700 });
  await keeper.contend();
  return keeper;
}

class Keeper implements Kept {
  readonly #options: KeepOptions;
  readonly #links = new Set<Link>();
  /** A new one asks for the node; one that gave it away does not. */
  #wants = true;
  #lock: FileLock | undefined;
  #offer: Offer | undefined;
  #tenure: Tenure | undefined;
  #beginning: { readonly abort: AbortController; readonly over: Promise<unknown> } | undefined;
  #giving: Promise<void> | undefined;
  #ended = false;

  constructor(options: KeepOptions) {
    this.#options = options;
  }

  /** Waits for the node, asks for it if it may, and has it in the end. Takes the name of the agent to which it was given before. */
  async contend(gaveTo?: string): Promise<void> {
    const preparing = new AbortController();
    try {
      const lock = await this.#wait(gaveTo, preparing.signal);
      if (lock === undefined) return;
      this.#lock = lock;
    } finally {
      preparing.abort();
    }
    if (gaveTo !== undefined)
      this.#options.logger.warn({ agent: gaveTo }, 'that agent is gone; taking the node back');
    await this.#own();
  }

  /** The lock; undefined where the program ends before. */
  async #wait(gaveTo: string | undefined, signal: AbortSignal): Promise<FileLock | undefined> {
    const { path, name, madeAt, logger } = this.#options;
    const prepared = this.#wants ? this.#prepared(signal) : undefined;
    let told = gaveTo;
    while (!this.#ended) {
      const lock = tryLockFile(lockOf(path));
      if (lock !== undefined) return lock;
      const mayAsk = prepared?.isOver === true;
      const link = mayAsk
        ? await askOwner(path, 'take-over', { name, since: await madeAt() }, handoverMs)
        : await askOwner(path, 'stand-by', { name, since: 0 }, answerMs);
      if (link === undefined) {
        await after(lookMs);
        continue;
      }
      if (link.owner !== told && !link.yours)
        logger.info({ agent: link.owner }, 'another agent has this node; standing by');
      told = link.owner;
      this.#keep(link);
      if (link.yours) continue;
      await Promise.race([link.ended, ...(mayAsk || !prepared ? [] : [prepared.done])]);
      link.close();
    }
    return undefined;
  }

  async stop(): Promise<void> {
    this.#ended = true;
    this.#beginning?.abort.abort();
    await Promise.allSettled([this.#beginning?.over, this.#giving]);
    const areOthers =
      this.#offer?.hasOthers === true || [...this.#links].some(({ yours }) => yours);
    await this.#tenure?.stop(areOthers ? 'ends-beside-another' : 'ends');
    // Only now, for those who wait begin when they hear of it.
    this.#offer?.close();
    for (const link of this.#links) link.close();
    this.#lock?.release();
  }

  #prepared(signal: AbortSignal): { readonly done: Promise<void>; readonly isOver: boolean } {
    let isOver = false;
    const done = this.#options.prepare(signal).then(() => void (isOver = true));
    return {
      done,
      get isOver() {
        return isOver;
      },
    };
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
        void ended.then(() => this.contend(to.name));
      },
    });
    const abort = new AbortController();
    const begun = this.#begin(abort.signal);
    this.#beginning = { abort, over: begun.catch(() => undefined) };
    await begun;
  }

  async #begin(signal: AbortSignal): Promise<void> {
    const deadlineMs = performance.now() + portsMs;
    try {
      while (!signal.aborted && !this.#ended && this.#tenure === undefined) {
        try {
          this.#tenure = await this.#options.begin(signal);
        } catch (error) {
          if (errnoCode(error) !== 'EADDRINUSE' || performance.now() > deadlineMs) throw error;
          await after(lookMs);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#offer?.close();
      this.#lock?.release();
      throw error;
    } finally {
      this.#beginning = undefined;
    }
  }

  async #give(to: Candidate): Promise<Given> {
    const { madeAt, logger } = this.#options;
    // One that cannot even say how old it is has nothing that it could go on with.
    const since = await within(answerMs, madeAt(), -Infinity);
    if (this.#giving !== undefined) {
      await this.#giving;
      return 'gone';
    }
    if (this.#ended) return 'kept';
    if (to.since < since) {
      logger.info({ agent: to.name }, 'an agent of an older pod asked for this node; it stands by');
      return 'kept';
    }
    logger.info({ agent: to.name }, 'a newer agent takes this node over');
    const giving = this.#letGo();
    this.#giving = giving;
    // An agent that could not let go is neither: unhandled, it ends the program, and the other one has the node.
    void giving.catch((error: unknown) => {
      throw error;
    });
    await giving;
    return 'given';
  }

  async #letGo(): Promise<void> {
    this.#beginning?.abort.abort();
    const stopped = async (): Promise<void> => {
      await this.#beginning?.over;
      const tenure = this.#tenure;
      this.#tenure = undefined;
      await tenure?.stop('hands-over');
    };
    const late = new MeshError(
      'agent/not-let-go',
      `what was begun on this node did not end in ${letGoMs} ms`,
    );
    if (
      (await within(
        letGoMs,
        stopped().then(() => undefined),
        late,
      )) !== undefined
    )
      throw late;
    this.#wants = false;
    this.#offer?.closeDoor();
    this.#lock?.release();
  }

  #keep(link: Link): void {
    this.#links.add(link);
    void link.ended.then(() => this.#links.delete(link));
  }
}

/** The lock that goes with a socket. */
export const lockOf = (path: string): string => `${path}.lock`;

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
