import type { Denial, StateChanges } from '@ambit/core';

/** A request or connection that was let in and is still under way. */
export interface UnderWay {
  /** Only bytes are known of it, so that it can last for days. */
  readonly isBytes: boolean;
  /** Judges it by the policies of now; undefined where it still may. */
  judgeAgain(): Denial | undefined;
  /** Ends it so that its client sees that it is not whole, and tells why. */
  cut(denial: Denial): void;
}

/** Requests are let go to their end for so long, so that a change of policy breaks none that is short. */
const graceMs = 500;

/** What is under way, judged again when policies change. */
export class LiveTraffic {
  readonly #open = new Set<UnderWay>();
  #timer: NodeJS.Timeout | undefined;

  get size(): number {
    return this.#open.size;
  }

  add(one: UnderWay): void {
    this.#open.add(one);
  }

  remove(one: UnderWay): void {
    this.#open.delete(one);
  }

  /** The state has changed: bytes are judged again at once, requests that last in a moment. */
  changed(changes: StateChanges): void {
    if (this.#open.size === 0 || !concernsPolicies(changes)) return;
    this.#judge(({ isBytes }) => isBytes);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#judge(() => true);
    }, graceMs);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #judge(isMeant: (one: UnderWay) => boolean): void {
    for (const one of [...this.#open]) {
      const denial = isMeant(one) ? one.judgeAgain() : undefined;
      if (denial !== undefined) one.cut(denial);
    }
  }
}

/** The mesh names the namespace whose policies hold everywhere. */
function concernsPolicies(changes: StateChanges): boolean {
  return changes.has('policy') || changes.has('mesh');
}
