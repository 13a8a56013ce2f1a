import type { StateChanges } from '@ambit/core';
import type { LateDenial } from './late-denial.ts';

/** A request or connection that was let in and is still under way. */
export interface UnderWay {
  /** Only bytes are known of it, so that it can last for days. */
  readonly isBytes: boolean;
  /** Judges it by the policies of now; undefined where it still may. */
  judgeAgain(): LateDenial | undefined;
  /** Verifies its token by the rules of now, and judges it by what the token then says; absent for what has no tokens. */
  verifyAgain?(): Promise<LateDenial | undefined>;
  /** Tells what has passed since the last time; absent for what tells it itself. */
  tellProgress?(): void;
  /** Ends it so that its client sees that it is not whole, and tells why. */
  cut(denial: LateDenial): void;
}

/** How often what lasts tells what has passed. */
const reportMs = 5_000;
/** Requests are let go to their end for so long, so that a change of policy breaks none that is short. */
const graceMs = 500;

/** What has changed since what is under way was let in. */
interface Concern {
  readonly policies: boolean;
  readonly tokens: boolean;
}

const nothing: Concern = { policies: false, tokens: false };

/** What is under way, judged again when policies or what tokens must be like change. */
export class LiveTraffic {
  /** By place: a set would have to hash each request. */
  readonly #open: (UnderWay | undefined)[] = [];
  readonly #free: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #due = nothing;
  readonly #reports: NodeJS.Timeout;

  constructor() {
    this.#reports = setInterval(() => {
      for (const one of this.#open) one?.tellProgress?.();
    }, reportMs);
    this.#reports.unref();
  }

  get size(): number {
    return this.#open.length - this.#free.length;
  }

  /** Its place, by which it is to be removed once. */
  add(one: UnderWay): number {
    const place = this.#free.pop() ?? this.#open.length;
    this.#open[place] = one;
    return place;
  }

  remove(place: number): void {
    this.#open[place] = undefined;
    this.#free.push(place);
  }

  /** The state has changed: bytes are judged again at once, requests that last in a moment. */
  changed(changes: StateChanges): void {
    if (this.size === 0) return;
    const concern = concernOf(changes);
    if (!concern.policies && !concern.tokens) return;
    this.#judge(concern, ({ isBytes }) => isBytes);
    this.#due = {
      policies: this.#due.policies || concern.policies,
      tokens: this.#due.tokens || concern.tokens,
    };
    this.#timer ??= setTimeout(() => {
      const due = this.#due;
      this.#timer = undefined;
      this.#due = nothing;
      this.#judge(due, () => true);
    }, graceMs);
  }

  close(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#reports);
  }

  #judge({ policies, tokens }: Concern, isMeant: (one: UnderWay) => boolean): void {
    for (const [place, one] of [...this.#open].entries()) {
      if (one === undefined || !isMeant(one)) continue;
      const denial = policies ? one.judgeAgain() : undefined;
      if (denial !== undefined) one.cut(denial);
      else if (tokens) void this.#verify(one, place);
    }
  }

  async #verify(one: UnderWay, place: number): Promise<void> {
    const denial = await one.verifyAgain?.();
    // It may have come to its end in the meantime.
    if (denial !== undefined && this.#open[place] === one) one.cut(denial);
  }
}

/** The mesh names the namespace whose policies hold everywhere. */
function concernOf(changes: StateChanges): Concern {
  return {
    policies: changes.has('policy') || changes.has('mesh'),
    tokens: changes.has('authentication'),
  };
}
