import type { OutlierDetection } from '@ambit/api';

export type Report = 'success' | '5xx' | 'gateway-error' | 'local-origin';

interface Health {
  fives: number;
  gateway: number;
  local: number;
  ejections: number;
  ejectedUntilMs: number;
}

const maxEjectionMs = 300_000;

/** Takes endpoints out of a cluster that fail again and again, as Envoy does; the time is passed in. */
export class OutlierDetector {
  readonly #settings: OutlierDetection;
  readonly #hosts = new Map<string, Health>();
  #sweptAtMs = 0;

  constructor(settings: OutlierDetection) {
    this.#settings = settings;
  }

  isEjected(id: string, nowMs: number): boolean {
    const health = this.#hosts.get(id);
    return health !== undefined && health.ejectedUntilMs > nowMs;
  }

  ejected(nowMs: number): number {
    let count = 0;
    for (const { ejectedUntilMs } of this.#hosts.values()) if (ejectedUntilMs > nowMs) count += 1;
    return count;
  }

  /** True when this report took the endpoint out; `total` is how many endpoints there are. */
  report(id: string, outcome: Report, nowMs: number, total: number): boolean {
    this.#sweep(nowMs);
    let health = this.#hosts.get(id);
    if (health === undefined) {
      if (outcome === 'success') return false;
      health = { fives: 0, gateway: 0, local: 0, ejections: 0, ejectedUntilMs: 0 };
      this.#hosts.set(id, health);
    }
    if (outcome === 'success') {
      health.fives = 0;
      health.gateway = 0;
      health.local = 0;
      return false;
    }
    return this.#count(health, outcome) && this.#eject(health, nowMs, total);
  }

  keep(ids: ReadonlySet<string>): void {
    for (const id of this.#hosts.keys()) if (!ids.has(id)) this.#hosts.delete(id);
  }

  /** True when one of the counters has run full. */
  #count(health: Health, outcome: Exclude<Report, 'success'>): boolean {
    const { consecutive5xx, consecutiveGatewayErrors, consecutiveLocalOrigin } = this.#settings;
    if (outcome === 'local-origin' && this.#settings.splitExternalLocalOrigin) {
      health.local += 1;
      return consecutiveLocalOrigin > 0 && health.local >= consecutiveLocalOrigin;
    }
    health.fives += 1;
    if (outcome === '5xx') health.gateway = 0;
    else health.gateway += 1;
    return (
      (consecutive5xx > 0 && health.fives >= consecutive5xx) ||
      (consecutiveGatewayErrors > 0 && health.gateway >= consecutiveGatewayErrors)
    );
  }

  #eject(health: Health, nowMs: number, total: number): boolean {
    if (health.ejectedUntilMs > nowMs || this.#settings.maxEjectionPercent <= 0) return false;
    const allowed = Math.max(1, Math.floor((total * this.#settings.maxEjectionPercent) / 100));
    if (this.ejected(nowMs) >= allowed) return false;
    health.ejections += 1;
    health.ejectedUntilMs =
      nowMs + Math.min(maxEjectionMs, this.#settings.baseEjectionMs * health.ejections);
    health.fives = 0;
    health.gateway = 0;
    health.local = 0;
    return true;
  }

  /** An endpoint that stays in for an interval is forgiven one ejection. */
  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptAtMs < this.#settings.intervalMs) return;
    this.#sweptAtMs = nowMs;
    for (const [id, health] of this.#hosts) {
      if (health.ejectedUntilMs > nowMs) continue;
      if (health.ejections > 0) health.ejections -= 1;
      else if (health.fives === 0 && health.local === 0) this.#hosts.delete(id);
    }
  }
}
