import type {
  Gateway,
  JwtRule,
  PolicyTarget,
  ReportedProblem,
  RequestAuthentication,
  Service,
} from '@ambit/api';
import { waypointClass } from '@ambit/api';
import type { MeshState } from '@ambit/core';
import type { JwksSource } from './jwks.ts';

export interface KeyWatchOptions {
  readonly state: Pick<MeshState, 'authentications' | 'service' | 'services' | 'subscribe'>;
  readonly jwks: Pick<JwksSource, 'keys'>;
  readonly gateway: () => Gateway | undefined;
  /** Every problem there is; called when that changes. */
  readonly report: (problems: readonly ReportedProblem[]) => void;
  readonly settleMs?: number;
  readonly againMs?: number;
}

/** Changes of a namespace come in crowds. */
const defaultSettleMs = 1_000;
/** How long it takes at most to see that a key server is back, without anybody's token. */
const defaultAgainMs = 10_000;
const maxWatched = 1_000;

/** Fetches the keys of the rules that this waypoint enforces before a token comes, and reports those that cannot be had. */
export class KeyWatch {
  readonly #options: KeyWatchOptions;
  readonly #failures = new Map<string, string>();
  readonly #unsubscribe: () => void;
  #timer: NodeJS.Timeout | undefined;
  #dueMs = 0;
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: KeyWatchOptions) {
    this.#options = options;
    this.#unsubscribe = options.state.subscribe((changes) => {
      if (['authentication', 'service', 'gateway'].some((type) => changes.has(type as 'service')))
        this.#later(options.settleMs ?? defaultSettleMs);
    });
  }

  failed(uri: string, error: string): void {
    if (this.#failures.get(uri) === error || this.#failures.size >= maxWatched) return;
    this.#failures.set(uri, error);
    this.#report();
    this.#later(this.#options.againMs ?? defaultAgainMs);
  }

  fetched(uri: string): void {
    if (this.#failures.delete(uri)) this.#report();
  }

  close(): void {
    this.#closed = true;
    this.#unsubscribe();
    clearTimeout(this.#timer);
  }

  #later(ms: number): void {
    const dueMs = performance.now() + ms;
    if (this.#closed || (this.#timer !== undefined && this.#dueMs <= dueMs)) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // One look at a time: the next begins where the last has ended.
      this.#looking = this.#looking.then(() => this.#look());
    }, ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const rules = new Map<string, JwtRule>();
    for (const authentication of this.#enforced()) {
      for (const rule of authentication.rules) {
        if (rule.keys.kind === 'remote' && rules.size < maxWatched) rules.set(rule.keys.uri, rule);
      }
    }
    for (const uri of this.#failures.keys()) if (!rules.has(uri)) this.#failures.delete(uri);
    // A rule may be new whose keys are known not to be had.
    this.#report();
    for (const rule of rules.values()) {
      if (this.#closed) return;
      await this.#options.jwks.keys(rule);
    }
    if (this.#failures.size > 0) this.#later(this.#options.againMs ?? defaultAgainMs);
  }

  #report(): void {
    const problems: ReportedProblem[] = [];
    if (this.#failures.size > 0) {
      for (const { namespace, name, rules } of this.#enforced()) {
        for (const [index, { keys }] of rules.entries()) {
          const error = keys.kind === 'remote' ? this.#failures.get(keys.uri) : undefined;
          if (error === undefined) continue;
          const field = `spec.jwtRules[${index}].jwksUri`;
          const message = `${error}; without keys every token of the rule is refused`;
          problems.push({ type: 'authentication', name: `${namespace}/${name}`, field, message });
        }
      }
    }
    this.#options.report(problems);
  }

  *#enforced(): Iterable<RequestAuthentication> {
    const gateway = this.#options.gateway();
    if (gateway === undefined) return;
    for (const one of this.#options.state.authentications()) {
      if (one.targets.some((target) => this.#isMine(target, gateway))) yield one;
    }
  }

  #isMine(target: PolicyTarget, gateway: Gateway): boolean {
    switch (target.kind) {
      case 'gateway-class':
        return target.name === waypointClass;
      case 'gateway':
        return target.namespace === gateway.namespace && target.name === gateway.name;
      case 'service':
        return isThrough(this.#options.state.service(target.service)?.waypoint, gateway);
      case 'service-entry':
        for (const { entry, namespace, waypoint } of this.#options.state.services()) {
          const named = entry?.name === target.name && namespace === target.namespace;
          if (named && isThrough(waypoint, gateway)) return true;
        }
        return false;
    }
  }
}

function isThrough(waypoint: Service['waypoint'], gateway: Gateway): boolean {
  return waypoint?.kind === 'service' && waypoint.service === gateway.service;
}
