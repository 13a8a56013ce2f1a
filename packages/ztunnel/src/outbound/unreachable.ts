import type { SocketAddress } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';

const maxHops = 10_000;

/** Next hops that could not be reached a moment ago: passed over while there are others. */
export class UnreachableHops {
  readonly #until = new Map<string, number>();
  readonly #memoryMs: number;

  constructor(memoryMs = 5_000) {
    this.#memoryMs = memoryMs;
  }

  note(hop: SocketAddress, nowMs: number): void {
    if (this.#until.size >= maxHops) this.#until.clear();
    this.#until.set(formatSocketAddress(hop), nowMs + this.#memoryMs);
  }

  has(hop: SocketAddress, nowMs: number): boolean {
    if (this.#until.size === 0) return false;
    const key = formatSocketAddress(hop);
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (until > nowMs) return true;
    this.#until.delete(key);
    return false;
  }
}
