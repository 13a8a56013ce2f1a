import type { Cluster } from '@ambit/api';
import type { EndpointHost } from './endpoint.ts';

export type HealthCheck = NonNullable<Cluster['healthCheck']>;

export interface HealthCheckerParts {
  readonly settings: HealthCheck;
  readonly hosts: () => readonly EndpointHost[];
  /** True for an endpoint that answers as it should; never throws. */
  readonly probe: (host: EndpointHost, settings: HealthCheck) => Promise<boolean>;
  readonly onChange: (host: EndpointHost, healthy: boolean) => void;
  readonly random: () => number;
}

interface State {
  healthy: boolean;
  passes: number;
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

/** So long after its last request a service is no longer checked. */
const idleAfterMs = 60_000;
/** Checks of one service that are under way at a time. */
const maxChecks = 16;
const busyWaitMs = 50;
/** The first checks come soon after the first request, but not all at once. */
const firstWithinMs = 1_000;

/**
 * Asks the endpoints of one port of a service how they are, as long as it is used. Endpoints are well until they have
 * failed often enough, and out until they have passed often enough.
 */
export class HealthChecker {
  readonly settings: HealthCheck;
  readonly #parts: HealthCheckerParts;
  readonly #states = new Map<string, State>();
  #usedAtMs = 0;
  #running = false;
  #checking = 0;
  #closed = false;

  constructor(parts: HealthCheckerParts) {
    this.settings = parts.settings;
    this.#parts = parts;
  }

  isUnhealthy(hostId: string): boolean {
    return this.#states.get(hostId)?.healthy === false;
  }

  used(nowMs: number): void {
    this.#usedAtMs = nowMs;
    if (this.#running || this.#closed) return;
    this.#running = true;
    this.sync();
  }

  /** Endpoints may be others now. */
  sync(): void {
    const hosts = this.#parts.hosts();
    const ids = new Set(hosts.map(({ id }) => id));
    for (const [id, { timer }] of this.#states) {
      if (ids.has(id)) continue;
      clearTimeout(timer);
      this.#states.delete(id);
    }
    if (!this.#running || this.#closed) return;
    for (const { id } of hosts) {
      let state = this.#states.get(id);
      if (state === undefined) {
        state = { healthy: true, passes: 0, failures: 0, timer: undefined };
        this.#states.set(id, state);
      }
      if (state.timer !== undefined) continue;
      const within = Math.min(firstWithinMs, this.settings.intervalMs);
      this.#later(id, state, this.#parts.random() * within);
    }
  }

  close(): void {
    this.#closed = true;
    this.#pause();
  }

  #pause(): void {
    this.#running = false;
    for (const state of this.#states.values()) {
      clearTimeout(state.timer);
      state.timer = undefined;
    }
  }

  #later(id: string, state: State, waitMs: number): void {
    state.timer = setTimeout(() => void this.#check(id, state), waitMs);
    state.timer.unref();
  }

  async #check(id: string, state: State): Promise<void> {
    if (performance.now() - this.#usedAtMs > idleAfterMs) {
      this.#pause();
      return;
    }
    const host = this.#parts.hosts().find((one) => one.id === id);
    if (host === undefined) return;
    if (this.#checking >= maxChecks) {
      this.#later(id, state, busyWaitMs);
      return;
    }
    this.#checking += 1;
    const passed = await this.#parts.probe(host, this.settings);
    this.#checking -= 1;
    const current = this.#states.get(id) === state;
    if (!current || this.#closed) return;
    this.#note(host, state, passed);
    if (!this.#running) return;
    // A tenth more or less, so that checks of many waypoints do not come together.
    this.#later(id, state, this.settings.intervalMs * (0.9 + 0.2 * this.#parts.random()));
  }

  #note(host: EndpointHost, state: State, passed: boolean): void {
    state.passes = passed ? state.passes + 1 : 0;
    state.failures = passed ? 0 : state.failures + 1;
    const { healthyThreshold, unhealthyThreshold } = this.settings;
    const healthy = state.healthy
      ? state.failures < unhealthyThreshold
      : state.passes >= healthyThreshold;
    if (healthy === state.healthy) return;
    state.healthy = healthy;
    this.#parts.onChange(host, healthy);
  }
}
