import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EnrolledPod } from '@ambit/api';
import { netnsInode } from '@ambit/core';

/** What the agent must remember of a pod beyond its own life: where its network namespace is. */
export interface PodRecord {
  readonly uid: string;
  /** File name below the directory of network namespaces. */
  readonly netns: string;
  readonly inode: string;
  /** Set while the pod is captured: a restarted agent tells ztunnel of it before it has asked the API server. */
  readonly enrolled?: EnrolledPod;
  /** Set from its release until its rules are deleted, which the next agent may have to do. */
  readonly draining?: true;
}

export const recordsFile = (stateDir: string): string => join(stateDir, 'pods.json');

/** The records, kept in a file so that a restarted agent finds the pods that were there before it. */
export class PodRecords {
  readonly #file: string;
  readonly #records = new Map<string, PodRecord>();
  #closed = false;

  constructor(stateDir: string) {
    this.#file = recordsFile(stateDir);
    try {
      const entries = JSON.parse(readFileSync(this.#file, 'utf8')) as PodRecord[];
      for (const entry of entries) this.#records.set(entry.uid, entry);
    } catch {
      // None yet, or not readable: namespaces are then found by their addresses.
    }
  }

  get(uid: string): PodRecord | undefined {
    return this.#records.get(uid);
  }

  set(record: PodRecord): void {
    this.#records.set(record.uid, record);
    this.#save();
  }

  delete(uid: string): void {
    if (this.#records.delete(uid)) this.#save();
  }

  all(): readonly PodRecord[] {
    return [...this.#records.values()];
  }

  /** The file is another agent's from now on. */
  close(): void {
    this.#closed = true;
  }

  #save(): void {
    if (this.#closed) return;
    const temporary = `${this.#file}.tmp`;
    writeFileSync(temporary, JSON.stringify([...this.#records.values()]), { mode: 0o600 });
    renameSync(temporary, this.#file);
  }
}

/** True while the namespace of a captured pod is the one that it was. */
export function isAlive({ inode, enrolled }: PodRecord): boolean {
  try {
    return enrolled !== undefined && netnsInode(enrolled.netns.path) === inode;
  } catch {
    return false;
  }
}
