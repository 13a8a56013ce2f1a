import type { Drainable, OpenConnections } from './tunnel.ts';

export interface DrainTimes {
  /** Nothing changes for so long but readiness: the node proxies have time to hear of it. */
  readonly preDrainMs: number;
  /** Then requests may go on for so long. */
  readonly drainMs: number;
}

/** What a drain does to the sessions below the connections. */
export interface DrainedServer {
  goAway(): void;
  stopListening(): void;
  /** Connections of sessions that are still there. */
  open(): number;
}

/** The connections of clients that are open, and how they end when the waypoint does. */
export class WaypointDrain implements OpenConnections {
  readonly #connections = new Set<Drainable>();
  #draining = false;

  get size(): number {
    return this.#connections.size;
  }

  add(connection: Drainable): void {
    this.#connections.add(connection);
    if (this.#draining) connection.drain();
  }

  remove(connection: Drainable): void {
    this.#connections.delete(connection);
  }

  /**
   * Loses nothing that ends in time: sessions and connections are asked to go while whatever is on its way here is
   * still taken; idle connections of HTTP/1.1, which cannot be asked, live until they were used once more or the
   * time is nearly over. Resolves when all is idle, at the latest after both times.
   */
  async run({ preDrainMs, drainMs }: DrainTimes, server: DrainedServer): Promise<void> {
    await sleep(preDrainMs);
    const deadline = performance.now() + drainMs;
    this.#draining = true;
    server.goAway();
    for (const connection of [...this.#connections]) connection.drain();
    server.stopListening();
    const empty = (): boolean => this.size === 0 && server.open() === 0;
    await until(empty, deadline - Math.min(maxClosingMs, drainMs / 4));
    for (const connection of [...this.#connections]) connection.closeIdle();
    await until(empty, deadline);
  }
}

/** What is left for the ends of idle connections to arrive. */
const maxClosingMs = 2_000;

/** Waits until something is so, at the latest until a time of `performance.now()`. */
export async function until(done: () => boolean, deadlineMs: number): Promise<void> {
  while (!done() && performance.now() < deadlineMs) await sleep(20);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
