import type { OutlierDetection } from '@ambit/api';

/** What a try says of its endpoint. `local-origin`: it did not answer (no connection, reset, too slow). */
export type Report = 'success' | '5xx' | 'gateway-error' | 'local-origin';

/** Envoy's words, which users know from its metrics. */
export type EjectionReason =
  'consecutive_5xx' | 'consecutive_gateway_failure' | 'consecutive_local_origin_failure';

export interface Ejection {
  readonly reason: EjectionReason;
  readonly forMs: number;
}

interface Health {
  fives: number;
  gateway: number;
  local: number;
  ejections: number;
  /** 0 while it is in. */
  ejectedUntilMs: number;
  /** Since when it is in, as far as it has not been rewarded for that. */
  sinceMs: number;
}

const maxEjectionMs = 300_000;

/** Takes endpoints out of a cluster that fail again and again, as Envoy does; the time is passed in. */
export class OutlierDetector {
  readonly #settings: OutlierDetection;
  readonly #hosts = new Map<string, Health>();
  #ejected = 0;

  constructor(settings: OutlierDetection) {
    this.#settings = settings;
  }

  get ejected(): number {
    return this.#ejected;
  }

  isEjected(id: string): boolean {
    return this.#ejected > 0 && (this.#hosts.get(id)?.ejectedUntilMs ?? 0) > 0;
  }

  /** When the next endpoint comes back. */
  get nextReturnMs(): number {
    let next = Number.POSITIVE_INFINITY;
    if (this.#ejected === 0) return next;
    for (const { ejectedUntilMs } of this.#hosts.values()) {
      if (ejectedUntilMs > 0 && ejectedUntilMs < next) next = ejectedUntilMs;
    }
    return next;
  }

  /** Lets those in whose time is over, and says who they are. */
  release(nowMs: number): readonly string[] {
    if (this.#ejected === 0) return [];
    const back: string[] = [];
    for (const [id, health] of this.#hosts) {
      if (health.ejectedUntilMs === 0 || health.ejectedUntilMs > nowMs) continue;
      health.ejectedUntilMs = 0;
      health.sinceMs = nowMs;
      this.#ejected -= 1;
      back.push(id);
    }
    return back;
  }

  /** What this report led to; `total` is how many endpoints there are. */
  report(id: string, outcome: Report, nowMs: number, total: number): Ejection | undefined {
    const known = this.#hosts.get(id);
    if (outcome === 'success') {
      if (known !== undefined) clear(known);
      return undefined;
    }
    const health = this.#hosts.get(id) ?? {
      fives: 0,
      gateway: 0,
      local: 0,
      ejections: 0,
      ejectedUntilMs: 0,
      sinceMs: nowMs,
    };
    this.#hosts.set(id, health);
    this.#forgive(health, nowMs);
    const reason = this.#count(health, outcome);
    return reason && this.#eject(health, reason, nowMs, total);
  }

  /** Forgets all others. */
  keep(ids: ReadonlySet<string>): void {
    for (const [id, { ejectedUntilMs }] of this.#hosts) {
      if (ids.has(id)) continue;
      this.#hosts.delete(id);
      if (ejectedUntilMs > 0) this.#ejected -= 1;
    }
  }

  /** The counter that has run full, if one has. */
  #count(health: Health, outcome: Exclude<Report, 'success'>): EjectionReason | undefined {
    const { consecutive5xx, consecutiveGatewayErrors, consecutiveLocalOrigin } = this.#settings;
    const full = (count: number, limit: number): boolean => limit > 0 && count >= limit;
    if (this.#settings.splitExternalLocalOrigin) {
      if (outcome === 'local-origin') {
        health.local += 1;
        return full(health.local, consecutiveLocalOrigin)
          ? 'consecutive_local_origin_failure'
          : undefined;
      }
      // It answered, so it could be reached.
      health.local = 0;
    }
    health.fives += 1;
    if (outcome === '5xx') health.gateway = 0;
    else health.gateway += 1;
    if (full(health.gateway, consecutiveGatewayErrors)) return 'consecutive_gateway_failure';
    return full(health.fives, consecutive5xx) ? 'consecutive_5xx' : undefined;
  }

  #eject(
    health: Health,
    reason: EjectionReason,
    nowMs: number,
    total: number,
  ): Ejection | undefined {
    const { maxEjectionPercent, baseEjectionMs } = this.#settings;
    if (health.ejectedUntilMs > 0 || maxEjectionPercent <= 0) return undefined;
    // One may always go, however few there are.
    const allowed = Math.max(1, Math.floor((total * maxEjectionPercent) / 100));
    if (this.#ejected >= allowed) return undefined;
    health.ejections += 1;
    const forMs = Math.min(
      Math.max(maxEjectionMs, baseEjectionMs),
      baseEjectionMs * health.ejections,
    );
    health.ejectedUntilMs = nowMs + forMs;
    this.#ejected += 1;
    clear(health);
    return { reason, forMs };
  }

  /** For every interval that an endpoint stays in it is forgiven one ejection. */
  #forgive(health: Health, nowMs: number): void {
    const { intervalMs } = this.#settings;
    const intervals = Math.floor((nowMs - health.sinceMs) / Math.max(1, intervalMs));
    if (intervals < 1 || health.ejectedUntilMs > 0) return;
    health.sinceMs = nowMs;
    health.ejections = Math.max(0, health.ejections - intervals);
  }
}

function clear(health: Health): void {
  health.fives = 0;
  health.gateway = 0;
  health.local = 0;
}
