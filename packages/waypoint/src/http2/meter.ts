import { Budget } from '@ambit/core';

const headerBytes = 9;
const prefaceBytes = 24;
const type = { data: 0, headers: 1, reset: 3, settings: 4, push: 5, ping: 6, continuation: 9 };
const endStream = 0x1;
const endHeaders = 0x4;
const padded = 0x8;
const noCost = 0;
/** What frames cost that make work and carry nothing; all others cost one. */
const costs: ReadonlyMap<number, number> = new Map([
  [type.settings, 10],
  [type.push, 10],
  [type.ping, 2],
]);
/** What a client may do without carrying anything: this much at once, and so much each second. */
const burst = 1_500;
const perSecond = 150;
/** What work that was wanted gives back: clients that are busy ping, cancel and widen windows more than idle ones. */
const earnedByAnswer = 20;
const earnedByWrite = 4;
const lostByReset = 5;
/** A second block on a stream is its trailers, which an answer pays for; nghttp2 ignores what it is otherwise. */
const oldStreamCost = 15;

/**
 * Follows the frames that a client of HTTP/2 sends, without their payload. nghttp2 bounds what waits to be sent, not
 * what it is made to do: floods of SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA and resets are cut by this.
 */
export class FrameMeter {
  readonly #budget: Budget;
  readonly #head = Buffer.alloc(headerBytes);
  #headBytes = 0;
  #skip = prefaceBytes;
  /** Of the frame that is being skipped; the preface counts as one. */
  #opaque = false;
  #inBlock = false;
  /** The next byte says how much of the DATA frame is padding. */
  #paddingNext = false;
  #lastStream = 0;
  #unfinishedSinceMs: number | undefined;

  constructor(nowMs: number) {
    this.#budget = new Budget(burst, perSecond, nowMs);
    this.#unfinishedSinceMs = nowMs;
  }

  /** Since when a frame or header block, other than DATA, is there in part. */
  get unfinishedSinceMs(): number | undefined {
    return this.#unfinishedSinceMs;
  }

  /** Takes what came; false once it is a flood. */
  take(chunk: Buffer, nowMs: number): boolean {
    let cost = 0;
    let finished = false;
    for (let at = 0; at < chunk.length;) {
      if (this.#skip > 0) {
        cost += this.#padding(chunk[at]);
        const skipped = Math.min(this.#skip, chunk.length - at);
        this.#skip -= skipped;
        at += skipped;
      } else {
        const part = Math.min(headerBytes - this.#headBytes, chunk.length - at);
        chunk.copy(this.#head, this.#headBytes, at, at + part);
        this.#headBytes += part;
        at += part;
        if (this.#headBytes === headerBytes) cost += this.#frame();
      }
      finished ||= this.#skip === 0 && this.#headBytes === 0 && !this.#inBlock;
    }
    const unfinished = this.#headBytes > 0 || this.#inBlock || (this.#skip > 0 && !this.#opaque);
    if (!unfinished) this.#unfinishedSinceMs = undefined;
    else if (finished || this.#unfinishedSinceMs === undefined) this.#unfinishedSinceMs = nowMs;
    return cost === 0 || this.#budget.spend(cost, nowMs);
  }

  /** A request was answered to its end. */
  answered(): void {
    this.#budget.earn(earnedByAnswer);
  }

  wrote(): void {
    this.#budget.earn(earnedByWrite);
  }

  /** A stream was reset by the client, or because of it; false once it is a flood. */
  reset(nowMs: number): boolean {
    return this.#budget.spend(lostByReset, nowMs);
  }

  #frame(): number {
    this.#headBytes = 0;
    const length = this.#head.readUIntBE(0, 3);
    const kind = this.#head[3] ?? 0;
    const flags = this.#head[4] ?? 0;
    this.#skip = length;
    this.#opaque = kind === type.data;
    if (kind === type.headers || kind === type.continuation) {
      this.#inBlock = (flags & endHeaders) === 0;
    }
    if (kind === type.data) {
      if ((flags & endStream) !== 0) return noCost;
      this.#paddingNext = length > 0 && (flags & padded) !== 0;
      return length > 0 ? noCost : 1;
    }
    if (kind === type.headers && !this.#isNewStream()) return oldStreamCost;
    return costs.get(kind) ?? 1;
  }

  #isNewStream(): boolean {
    const stream = this.#head.readUInt32BE(5) & 0x7f_ff_ff_ff;
    if (stream <= this.#lastStream) return false;
    this.#lastStream = stream;
    return true;
  }

  /** What a frame of DATA costs that is padding and nothing else. */
  #padding(bytes = 0): number {
    if (!this.#paddingNext) return noCost;
    this.#paddingNext = false;
    return bytes >= this.#skip - 1 ? 1 : noCost;
  }
}
