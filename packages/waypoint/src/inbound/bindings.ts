import type { Gateway, Service, Workload } from '@ambit/api';
import type { MeshState } from '@ambit/core';

/** Node proxies hear of a change before or after we do; for this long both what was and what is are right. */
const graceMs = 15_000;

/** What is bound to this waypoint, and what was until a moment ago. */
export class Bindings {
  readonly #state: MeshState;
  readonly #gateway: () => Gateway | undefined;
  readonly #bound = new Set<string>();
  readonly #until = new Map<string, number>();
  readonly #unsubscribe: () => void;

  constructor(state: MeshState, gateway: () => Gateway | undefined) {
    this.#state = state;
    this.#gateway = gateway;
    this.#unsubscribe = state.subscribe(() => this.#look());
  }

  serves(what: Pick<Service, 'waypoint' | 'namespace' | 'name'> | Workload): boolean {
    const gateway = this.#gateway();
    if (gateway === undefined) return false;
    if (isBound(what.waypoint, gateway)) return true;
    const until = this.#until.get(nameOf(what));
    return until !== undefined && until > performance.now();
  }

  /** Resolves when the state has changed, or after a while. */
  async change(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        stop();
        resolve();
      };
      const timer = setTimeout(done, ms);
      const stop = this.#state.subscribe(done);
    });
  }

  close(): void {
    this.#unsubscribe();
  }

  #look(): void {
    const gateway = this.#gateway();
    if (gateway === undefined) return;
    const now = performance.now();
    const bound = new Set<string>();
    for (const each of [this.#state.services(), this.#state.workloads()]) {
      for (const one of each) if (isBound(one.waypoint, gateway)) bound.add(nameOf(one));
    }
    for (const name of this.#bound) if (!bound.has(name)) this.#until.set(name, now + graceMs);
    for (const name of bound) {
      this.#bound.add(name);
      this.#until.delete(name);
    }
    for (const name of this.#bound) if (!bound.has(name)) this.#bound.delete(name);
    for (const [name, until] of this.#until) if (until < now) this.#until.delete(name);
  }
}

function isBound(waypoint: Service['waypoint'], gateway: Gateway): boolean {
  return waypoint?.kind === 'service' && waypoint.service === gateway.service;
}

function nameOf(what: Pick<Service, 'namespace' | 'name'> | Workload): string {
  return 'uid' in what ? what.uid : `${what.namespace}/${what.name}`;
}
