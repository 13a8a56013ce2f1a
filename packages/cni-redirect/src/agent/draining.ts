import { basename } from 'node:path';
import type { Logger } from '@ambit/core';
import { causeChain } from '@ambit/core';
import type { ConnectionTracking } from './connection-tracking.ts';
import type { FoundNetns } from './netns-finder.ts';
import { openRecorded } from './netns-finder.ts';
import type { PodRecords } from './records.ts';
import { deleteRules } from './release.ts';

export interface DrainingOptions {
  readonly netnsDir: string;
  readonly records: PodRecords;
  readonly tracking: ConnectionTracking;
  /** Carries work out after what is under way for the same pod. */
  readonly inTurn: (uid: string, work: () => Promise<void>) => Promise<void>;
  readonly logger: Logger;
}

/** How often a pod that left is asked whether its captured connections have ended. */
const checkMs = 5_000;

/**
 * Pods that left the mesh and still have rules: connections that were redirected need the translation for as long as they
 * live. The records tell, so that an agent deletes what one before it could not yet.
 */
export class Draining {
  readonly #options: DrainingOptions;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #underWay = new Set<Promise<void>>();
  #closed = false;

  constructor(options: DrainingOptions) {
    this.#options = options;
    for (const uid of this.uids()) this.#again(uid);
  }

  uids(): string[] {
    return this.#options.records.all().flatMap(({ uid, draining }) => (draining ? [uid] : []));
  }

  has(uid: string): boolean {
    return this.#options.records.get(uid)?.draining === true;
  }

  /** A pod was let go. Ends when its rules are deleted, or when it is recorded anew. */
  begin(uid: string, { path, netns: { inode } }: FoundNetns): void {
    this.#options.records.set({ uid, netns: basename(path), inode, draining: true });
    this.#again(uid);
  }

  /** Deletes the rules now: within this time, or with `force` after it in any case; else they go as they would have. */
  async end(uid: string, withinMs: number, force: boolean): Promise<void> {
    if (!(await this.#delete(uid, withinMs, force))) this.#again(uid);
  }

  forget(uid: string): void {
    clearTimeout(this.#timers.get(uid));
    this.#timers.delete(uid);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const uid of [...this.#timers.keys()]) this.forget(uid);
    await Promise.all(this.#underWay);
  }

  #again(uid: string): void {
    this.forget(uid);
    if (this.#closed) return;
    this.#timers.set(
      uid,
      setTimeout(() => this.#look(uid), checkMs),
    );
  }

  #look(uid: string): void {
    const { inTurn, logger } = this.#options;
    this.#timers.delete(uid);
    const done = inTurn(uid, async () => {
      if (!this.#closed) await this.end(uid, 0, false);
    }).catch((error: unknown) => {
      logger.warn({ reason: causeChain(error) }, 'rules of a pod not deleted');
      this.#again(uid);
    });
    this.#underWay.add(done);
    void done.then(() => this.#underWay.delete(done));
  }

  async #delete(uid: string, withinMs: number, force: boolean): Promise<boolean> {
    const { netnsDir, records, tracking, logger } = this.#options;
    const record = records.get(uid);
    if (record?.draining !== true) return true;
    const found = openRecorded(netnsDir, record);
    try {
      const removed =
        found === undefined
          ? 'deleted'
          : await deleteRules(found.netns, { tracking, withinMs, force });
      if (removed === 'not-yet') return false;
      if (removed === 'left')
        logger.info(
          { uid, netns: record.netns },
          'a table that takes nothing stays in a pod, for connections past the proxy whose ports it translates',
        );
    } finally {
      found?.netns.close();
    }
    // It may be gone, or recorded anew, by now.
    const { netns, inode } = record;
    if (records.get(uid) === record) records.set({ uid, netns, inode });
    return true;
  }
}
